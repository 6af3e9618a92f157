//! Models of an engine: those of this machine, and backends that are written in Python.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use dgx_pixels_core::backend::{
    Backend, Canvas, Decoding, DeviceMemory, Either, ModelInfo, Models, Unmetered, Variant, refuse_changes,
};
use dgx_pixels_core::local::{LocalBackend, LocalModels};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::{
    Cause, Error, ErrorKind, GenerateRequest, ImageSize, ModelDefaults, ResolvedRequest, one_line,
};
use image::RgbImage;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use crate::error::invalid;

thread_local! {
    /// `true` while this thread, an engine's, is in a backend in Python.
    static IS_IN_BACKEND: Cell<bool> = const { Cell::new(false) };
}

/// `true` if the caller is a backend in Python: it must not wait for the end of its own engine.
pub(crate) fn is_in_backend() -> bool {
    IS_IN_BACKEND.get()
}

/// A backend in Python, under its name: an object with the methods of `dgx_pixels.backend.Backend`.
struct PyModel {
    name: String,
    object: Py<PyAny>,
    defaults: ModelDefaults,
}

/// The models that a caller asks for, in their order.
pub(crate) struct ServedModels {
    names: Vec<String>,
    python: Vec<Arc<PyModel>>,
}

impl ServedModels {
    pub(crate) fn read(py: Python<'_>, given: Vec<(String, Option<Py<PyAny>>)>) -> PyResult<ServedModels> {
        let mut models = ServedModels { names: vec![], python: vec![] };
        let mut seen = HashSet::new();
        for (name, object) in given {
            if !seen.insert(name.clone()) {
                let text = format!("`models` names `{name}` twice; expected each once");
                return Err(invalid(py, "models", text));
            }
            models.names.push(name.clone());
            let Some(object) = object else { continue };
            let read = |name: &str| object.bind(py).getattr(name);
            let (width, height): (u32, u32) = read("size")?.extract()?;
            let size = ImageSize { width, height };
            size.validate(1).map_err(|error| invalid(py, "size", error.to_string()))?;
            let defaults = ModelDefaults {
                size,
                largest: size,
                multiple: 1,
                steps: read("steps")?.extract()?,
                guidance_scale: read("guidance_scale")?.extract()?,
                scheduler: SchedulerName::Euler,
                is_distilled: false,
                matte: None,
                needs_mask: false,
            };
            models.python.push(Arc::new(PyModel { name, object, defaults }));
        }
        Ok(models)
    }
}

/// Models of this machine and backends in Python, for one engine.
pub(crate) struct Served {
    names: Vec<String>,
    local: Option<LocalModels>,
    python: Vec<Arc<PyModel>>,
}

impl Served {
    pub(crate) fn open(models: ServedModels, options: Options, own_process: bool) -> Result<Served, Error> {
        let ServedModels { mut names, python } = models;
        let is_python = |name: &&String| python.iter().any(|model| model.name == **name);
        let wanted: Vec<_> = names.iter().filter(|name| !is_python(name)).map(String::as_str).collect();
        let local = match (wanted.as_slice(), python.as_slice()) {
            ([], []) => Some(LocalModels::open(None)?.with_files_of_requests()),
            ([], _) => None,
            (wanted, _) => Some(LocalModels::named(wanted)?.with_files_of_requests()),
        };
        let local = match local {
            Some(local) if own_process => Some(local.with(options)?.owning_process()?),
            Some(local) => Some(local.with(options)?),
            None => None,
        };
        if let Some(local) = &local {
            // A folder is served under its name.
            let mut opened = local.all().iter().map(|model| model.name.clone());
            names.iter_mut().filter(|name| !is_python(&&**name)).for_each(|name| {
                *name = opened.next().unwrap_or_default();
            });
            names.extend(opened);
        }
        Ok(Served { names, local, python })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    pub(crate) fn preload(&self) -> Result<(), Error> {
        self.local.as_ref().map_or(Ok(()), LocalModels::preload)
    }

    pub(crate) fn devices(&self) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
        match &self.local {
            Some(local) => local.devices(),
            None => Ok(vec![Box::new(Unmetered("cpu".into()))]),
        }
    }

    /// The backend in Python of this name, or of the default.
    fn python(&self, name: Option<&str>) -> Option<&Arc<PyModel>> {
        let name = name.or(self.names.first().map(String::as_str))?;
        self.python.iter().find(|model| model.name == name)
    }

    fn local(&self, name: Option<&str>) -> Result<&LocalModels, Error> {
        self.local.as_ref().ok_or_else(|| {
            let names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
            let (name, names) = (name.unwrap_or_default(), names.join(", "));
            Error::ModelChoice(format!("`model` is `{name}`; there are {names}"))
        })
    }
}

impl Models for Served {
    type Backend = Either<LocalBackend, PyBackend>;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        let name = model.or(self.names.first().map(String::as_str));
        match self.python(name) {
            Some(model) => Ok(ModelInfo {
                name: model.name.clone(),
                architecture: format!("python: {}", model.name),
                dtype: "none".into(),
                weight_bytes: 0,
                defaults: model.defaults.clone(),
                vae_tiling: false,
                mode: None,
                libtorch: None,
                licence: None,
                variant: Variant::default(),
            }),
            None => self.local(name)?.describe(name, device),
        }
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<Self::Backend, Error> {
        match self.python(Some(model)) {
            Some(model) => Ok(Either::Second(PyBackend { model: model.clone() })),
            None => self.local(Some(model))?.load(model, device, on_bytes).map(Either::First),
        }
    }

    fn describe_for(
        &self,
        model: Option<&str>,
        request: &GenerateRequest,
        device: &str,
    ) -> Result<ModelInfo, Error> {
        let name = model.or(self.names.first().map(String::as_str));
        match self.python(name) {
            None => self.local(name)?.describe_for(name, request, device),
            Some(model) => {
                refuse_changes(request, &format!("`{}` is a backend in Python", model.name))?;
                self.describe(name, device)
            }
        }
    }

    fn load_with(
        &self,
        info: &ModelInfo,
        device: &str,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Self::Backend, Error> {
        match self.python(Some(&info.name)) {
            Some(_) => self.load(&info.name, device, on_bytes),
            None => self.local(Some(&info.name))?.load_with(info, device, on_bytes).map(Either::First),
        }
    }

    fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        match self.python(Some(model)) {
            Some(_) => Ok(None),
            None => self.local(Some(model))?.hash(model),
        }
    }
}

/// A backend that calls its object in Python.
pub(crate) struct PyBackend {
    model: Arc<PyModel>,
}

/// An image that an object in Python draws.
pub(crate) struct PyCanvas {
    request: ResolvedRequest,
    state: Py<PyAny>,
    steps_done: usize,
}

impl PyBackend {
    fn call<T>(&self, call: impl FnOnce(Python<'_>, &Bound<'_, PyAny>) -> PyResult<T>) -> Result<T, Error> {
        IS_IN_BACKEND.set(true);
        let attached = Python::try_attach(|py| {
            call(py, self.model.object.bind(py)).map_err(|error| self.fault(py, error))
        });
        IS_IN_BACKEND.set(false);
        attached.unwrap_or(Err(Error::ShutDown))
    }

    /// The error for an exception of the object. The exception stays its cause.
    fn fault(&self, py: Python<'_>, error: PyErr) -> Error {
        let name = error.get_type(py).name().map(|name| name.to_string()).unwrap_or_default();
        // torch's own is no `MemoryError`.
        if error.is_instance_of::<PyMemoryError>(py) || name == "OutOfMemoryError" {
            return Error::OutOfMemory { device: "python".into(), doing: "drawing".into() };
        }
        let words = format!("the backend of `{}` raised {}", self.model.name, one_line(&error));
        Error::Reported { kind: ErrorKind::Internal, field: None, message: words }
    }

    fn states<'py>(py: Python<'py>, canvases: impl Iterator<Item = &'py PyCanvas>) -> Vec<Py<PyAny>> {
        canvases.map(|canvas| canvas.state.clone_ref(py)).collect()
    }
}

impl Backend for PyBackend {
    type Canvas = PyCanvas;

    fn defaults(&self) -> ModelDefaults {
        self.model.defaults.clone()
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<PyCanvas>, Error> {
        let json = serde_json::to_string(requests)
            .map_err(|error| Error::internal("describing a request", Cause::from(error)))?;
        let states: Vec<Py<PyAny>> =
            self.call(|_, object| object.call_method1("_begin", (json,))?.extract())?;
        if states.len() != requests.len() {
            let (found, expected) = (states.len(), requests.len());
            return Err(self.misfit(format!("`begin` returned {found} states; expected {expected}")));
        }
        let canvases = requests.iter().zip(states);
        let canvas = |(request, state): (&ResolvedRequest, _)| PyCanvas {
            request: request.clone(),
            state,
            steps_done: 0,
        };
        Ok(canvases.map(canvas).collect())
    }

    fn step(&mut self, canvases: &mut [&mut PyCanvas]) -> Result<(), Error> {
        let mut active: Vec<_> =
            canvases.iter_mut().filter(|canvas| canvas.steps_done < canvas.steps()).collect();
        self.call(|py, object| {
            let states: Vec<_> = active.iter().map(|canvas| canvas.state.clone_ref(py)).collect();
            let steps: Vec<_> = active.iter().map(|canvas| canvas.steps_done).collect();
            object.call_method1("_step", (states, steps)).map(drop)
        })?;
        active.iter_mut().for_each(|canvas| canvas.steps_done += 1);
        Ok(())
    }

    fn finish(&mut self, canvases: &[&PyCanvas]) -> Result<Decoding, Error> {
        let images: Vec<(u32, u32, Vec<u8>)> = self.call(|py, object| {
            let states = PyBackend::states(py, canvases.iter().copied());
            object.call_method1("_finish", (states,))?.extract()
        })?;
        if images.len() != canvases.len() {
            let (found, expected) = (images.len(), canvases.len());
            return Err(self.misfit(format!("`finish` returned {found} images; expected {expected}")));
        }
        let read = |((width, height, bytes), canvas): ((u32, u32, Vec<u8>), &&PyCanvas)| {
            let expected = canvas.request.size;
            if (width, height) != (expected.width, expected.height) {
                let found = format!("an image of {width}x{height}");
                return Err(self.misfit(format!("it drew {found}; the request asks for {expected}")));
            }
            RgbImage::from_raw(width, height, bytes)
                .ok_or_else(|| self.misfit("its image has fewer bytes than 3 for each pixel".into()))
        };
        let images = images.into_iter().zip(canvases).map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(images.into())
    }

    fn preview(&mut self, canvas: &PyCanvas) -> Result<RgbImage, Error> {
        let (width, height, bytes): (u32, u32, Vec<u8>) = self
            .call(|py, object| object.call_method1("_preview", (&canvas.state.clone_ref(py),))?.extract())?;
        RgbImage::from_raw(width, height, bytes)
            .ok_or_else(|| self.misfit("its preview has fewer bytes than 3 for each pixel".into()))
    }
}

impl PyBackend {
    fn misfit(&self, words: String) -> Error {
        let message = format!("the backend of `{}` does not keep to its contract: {words}", self.model.name);
        Error::Reported { kind: ErrorKind::Internal, field: None, message }
    }
}

impl Canvas for PyCanvas {
    fn request(&self) -> &ResolvedRequest {
        &self.request
    }

    fn steps_done(&self) -> usize {
        self.steps_done
    }
}
