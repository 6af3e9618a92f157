//! `dgx-pixels doctor`: the libraries, models and devices to draw with, problems, and the commands
//! that fix them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dgx_pixels_core::ErrorKind;
use dgx_pixels_core::abi::{FILE_NAME, Kernels, LIBTORCH_VERSION};
use dgx_pixels_core::device::Device;
use dgx_pixels_core::gpu::gpus;
use dgx_pixels_core::loaded::{self, Libtorch, Origin};
use dgx_pixels_core::model::search::{self, Found};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::failure::{Failure, one_line};
use crate::models::Summary;
use crate::output::{say, say_json};

/// Report the libraries, models and devices to draw with, and how to fix problems.
///
/// Ends with 0 if a model can be drawn with, otherwise with 1.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Everything found. Names are those of the JSON object.
#[derive(Serialize)]
struct Report {
    program: &'static str,
    /// Its version; null if it cannot be loaded.
    libtorch: Option<&'static str>,
    /// The object that computes with libtorch, and the folder of libtorch's libraries.
    object: Part,
    libtorch_folder: Part,
    cuda: Cuda,
    memory: Option<Memory>,
    models: Vec<ModelState>,
    problems: Vec<Problem>,
    can_draw: bool,
}

#[derive(Serialize)]
struct Part {
    path: Option<PathBuf>,
    /// The reason why this one is used.
    origin: Option<Origin>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Cuda {
    available: bool,
    /// The reason why it is not used.
    reason: Option<String>,
    gpus: Vec<GpuState>,
}

#[derive(Serialize)]
struct GpuState {
    device: String,
    name: String,
    total_bytes: u64,
    compute_capability: String,
    driver_cuda: String,
    shares_memory: bool,
    /// The state of this program's kernels: "compiled", or the reason why libtorch's are used.
    kernels: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Memory {
    total_bytes: u64,
    available_bytes: u64,
}

#[derive(Serialize)]
struct ModelState {
    name: String,
    path: PathBuf,
    /// The folder that the name stands for instead.
    shadowed_by: Option<PathBuf>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Problem {
    what: String,
    /// A command, or what to do where no command does it.
    mend: String,
}

/// Looks, reports, and ends with 0 if a model can be drawn with.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let report = look();
    if args.json {
        say_json(&report)?;
    } else {
        report.tell()?;
    }
    Ok(if report.can_draw { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look() -> Report {
    let mut problems = vec![];
    let report = loaded::report();
    let (object, libtorch_folder) = (Part::of(report.object), Part::of(report.libtorch));
    let stated = object.error.clone().or_else(|| libtorch_folder.error.clone());
    // Only what its files do not rule out is loaded.
    let libtorch = match stated {
        Some(fault) => Err(fault),
        None => Libtorch::load(true).map_err(|error| one_line(&error)),
    };
    let cuda = Cuda::of(libtorch.as_ref().ok());
    match &libtorch {
        Err(fault) if object.error.is_some() => {
            problems.push(Problem {
                what: fault.clone(),
                mend: format!("make torch, which builds `{FILE_NAME}`"),
            });
        }
        Err(fault) => problems.push(Problem { what: fault.clone(), mend: "dgx-pixels setup".into() }),
        Ok(_) => problems.extend(cuda.problem()),
    }
    let libtorch = libtorch.is_ok().then_some(LIBTORCH_VERSION);

    let places = search::places();
    let mut models = vec![];
    for found in search::find(&places) {
        problems.extend(shadowed(&found));
        let Found { name, path, model, shadowed_by, .. } = found;
        let error = model.and_then(|model| Summary::of(&model)).err().map(|error| one_line(&error));
        problems.extend(error.as_ref().map(|error| broken(&name, &path, error)));
        models.push(ModelState { name, path, shadowed_by, error });
    }
    let usable = models.iter().any(|model| model.error.is_none());
    if !usable {
        problems.push(Problem {
            what: match models.as_slice() {
                [] => search::none_found(&places),
                _ => "each model found is broken".into(),
            },
            mend: "dgx-pixels pull stabilityai/stable-diffusion-xl-base-1.0 --fp16".into(),
        });
    }
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| Memory::parse(&text));
    let can_draw = libtorch.is_some() && usable;
    Report {
        program: env!("CARGO_PKG_VERSION"),
        libtorch,
        object,
        libtorch_folder,
        cuda,
        memory,
        models,
        problems,
        can_draw,
    }
}

impl Part {
    fn of(found: Result<(PathBuf, Origin), String>) -> Part {
        match found {
            Ok((path, origin)) => Part { path: Some(path), origin: Some(origin), error: None },
            Err(error) => Part { path: None, origin: None, error: Some(error) },
        }
    }
}

impl Cuda {
    /// The GPUs as their driver describes them, and whether libtorch can use them.
    fn of(libtorch: Option<&Libtorch>) -> Cuda {
        let gpus = match gpus() {
            Err(reason) => return Cuda { available: false, reason: Some(reason), gpus: vec![] },
            Ok(gpus) => gpus,
        };
        let mut reason = gpus.is_empty().then(|| "the driver serves no GPU".to_owned());
        let mut states = vec![];
        for gpu in gpus {
            let device = Device::Cuda(gpu.index);
            let kernels = match libtorch {
                None => "unknown, as libtorch cannot be loaded".into(),
                Some(libtorch) => match loaded::resolve(device).and_then(|device| libtorch.kernels(device)) {
                    Ok(Kernels { hopper, fp8 }) => {
                        let own = if hopper { "compiled, with those for Hopper" } else { "compiled" };
                        let fp8 = if fp8 { "`fp8` can be had" } else { "`fp8` is `fast` here" };
                        format!("{own}; {fp8}")
                    }
                    Err(error) => {
                        if error.kind() == ErrorKind::DeviceUnavailable {
                            reason.get_or_insert_with(|| one_line(&error));
                        }
                        format!("libtorch's, as ours cannot be used: {}", one_line(&error))
                    }
                },
            };
            states.push(GpuState {
                device: device.to_string(),
                name: gpu.name,
                total_bytes: gpu.total_bytes,
                compute_capability: format!("{}.{}", gpu.compute_capability.0, gpu.compute_capability.1),
                driver_cuda: gpu.driver_cuda,
                shares_memory: gpu.integrated,
                kernels,
            });
        }
        Cuda { available: reason.is_none() && libtorch.is_some(), reason, gpus: states }
    }

    /// The problem that CUDA is missing, if there is a GPU.
    fn problem(&self) -> Option<Problem> {
        let reason = self.reason.as_ref()?;
        let driver_runs = Path::new("/proc/driver/nvidia/version").exists();
        if !driver_runs && !has_nvidia_gpu() {
            return None;
        }
        let in_container = Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists();
        let (advice, mend) = match (in_container, driver_runs) {
            (true, _) => ("the container is started without it", "docker run --gpus all"),
            (false, false) => ("the driver, on Ubuntu and DGX OS:", "sudo ubuntu-drivers install"),
            (false, true) => ("CUDA's libraries:", "dgx-pixels setup --cuda"),
        };
        let what = format!("there is an NVIDIA GPU, but CUDA is not available: {reason}; {advice}");
        Some(Problem { what, mend: mend.into() })
    }
}

/// `true` if a display controller of NVIDIA is on the PCI bus.
fn has_nvidia_gpu() -> bool {
    let devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let starts = |path: PathBuf, start| fs::read_to_string(path).is_ok_and(|text| text.starts_with(start));
    devices
        .map(|device| device.path())
        .any(|device| starts(device.join("vendor"), "0x10de") && starts(device.join("class"), "0x03"))
}

/// A model in the current folder whose name stands for another one: whoever made the folder may
/// have meant it to be used.
fn shadowed(found: &Found) -> Option<Problem> {
    let what = found.shadow_note().filter(|_| found.is_here)?.to_string();
    Some(Problem { what, mend: format!("mv '{0}' '{0}-of-this-folder'", found.path.display()) })
}

fn broken(name: &str, path: &Path, error: &str) -> Problem {
    // Hugging Face's cache names repositories; a folder of one's own can only be saved again.
    let mend = match name.contains('/') {
        true => {
            let repository: Vec<_> = name.split('/').take(2).collect();
            format!("dgx-pixels pull {} --force", repository.join("/"))
        }
        false => format!("pipeline.save_pretrained(\"{}\") in diffusers writes it anew", path.display()),
    };
    Problem { what: error.to_owned(), mend }
}

impl Memory {
    /// Reads `/proc/meminfo`, which counts in KiB.
    fn parse(text: &str) -> Option<Self> {
        let bytes = |field: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            Some(value.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Some(Memory { total_bytes: bytes("MemTotal")?, available_bytes: bytes("MemAvailable")? })
    }
}

impl Report {
    fn tell(&self) -> Result<(), Failure> {
        let row = |label: &str, text: &str| say(&format!("{label:<11}{text}"));
        row("program", self.program)?;
        row("libtorch", self.libtorch.unwrap_or("cannot be loaded"))?;
        for part in [&self.object, &self.libtorch_folder] {
            if let Some(path) = &part.path {
                row("", &format!("`{}`", path.display()))?;
            }
        }
        row("cuda", self.cuda.reason.as_ref().map_or("available", |_| "not available"))?;
        if let Some(reason) = &self.cuda.reason {
            row("", reason)?;
        }
        for gpu in &self.cuda.gpus {
            let memory = if gpu.shares_memory { " shared with the machine" } else { "" };
            let GpuState { name, compute_capability, driver_cuda, .. } = gpu;
            let bytes = BinaryBytes(gpu.total_bytes);
            row(
                &gpu.device,
                &format!(
                    "{name}, {bytes}{memory}, compute capability {compute_capability}, driver for CUDA {driver_cuda}"
                ),
            )?;
            row("", &format!("kernels: {}", gpu.kernels))?;
        }
        if let Some(Memory { total_bytes, available_bytes }) = self.memory {
            row(
                "memory",
                &format!("{}, {} available", BinaryBytes(total_bytes), BinaryBytes(available_bytes)),
            )?;
        }
        if self.models.is_empty() {
            row("models", "none")?;
        }
        for (i, model) in self.models.iter().enumerate() {
            let state = match (&model.error, &model.shadowed_by) {
                (Some(_), _) => "broken: ",
                (None, Some(_)) => "by its path only: ",
                (None, None) => "",
            };
            let label = if i == 0 { "models" } else { "" };
            row(label, &format!("{state}{} in `{}`", model.name, model.path.display()))?;
        }
        for Problem { what, mend } in &self.problems {
            say(&"")?;
            row("problem", what)?;
            row("mend", mend)?;
        }
        say(&"")?;
        say(&if self.can_draw { "ready to draw" } else { "cannot draw with a model" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:       131072 kB\nMemFree:            5 kB\nMemAvailable:    65536 kB\n";
        let memory = Memory { total_bytes: 128 << 20, available_bytes: 64 << 20 };
        assert_eq!(Memory::parse(text), Some(memory));
        assert_eq!(Memory::parse("MemTotal: lots"), None);
    }
}
