//! The two ways to libtorch, linked and loaded, give the same images, errors and memory. Here both
//! are in one process, which is thereby not the object's own: `make test` builds the object before
//! this.

#![cfg(all(feature = "engine", feature = "torch"))]

mod vaes;

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dgx_pixels_core::backend::{Backend, Canvas, DeviceMemory as _, Latents, Variant, begin, paint};
use dgx_pixels_core::device::Device;
use dgx_pixels_core::loaded::{Libtorch, LoadedDevice, LoadedModel, Origin, report};
use dgx_pixels_core::model::lora::LoraUse;
use dgx_pixels_core::model::{ControlUse, Options, VaeUse};
use dgx_pixels_core::scheduler::{PredictionType, SchedulerName};
use dgx_pixels_core::torch::Sdxl;
use dgx_pixels_core::{ControlChoice, Error, ErrorKind, GenerateRequest, Model, PromptSyntax, SourceImage};
use image::{RgbImage, Rgba, RgbaImage};

use self::vaes::inverse_vae;

const CPU: Options = Options {
    device: Device::Cpu,
    dtype: None,
    mode: dgx_pixels_core::device::Mode::Fast,
    vae_slicing: false,
    vae_tiling: false,
    prediction_type: None,
    zero_snr: None,
    lenient: false,
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// The object, in a process that is this test's.
fn libtorch() -> Libtorch {
    Libtorch::load(false).unwrap()
}

/// One test at a time: memory is counted for all of them together.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn both(name: &str) -> (Sdxl, LoadedModel) {
    let model = Model::open(folder(name)).unwrap();
    let loaded = LoadedModel::load(libtorch(), &model, &CPU, &mut |_| ()).unwrap();
    (Sdxl::load(&model, &CPU).unwrap(), loaded)
}

fn request(prompt: &str, seed: u64) -> GenerateRequest {
    GenerateRequest { prompt: prompt.into(), seed, steps: Some(3), ..Default::default() }
}

/// Requests that take every way through a model.
fn requests() -> Vec<GenerateRequest> {
    let plain = request("a brass key", 1);
    let mut all: Vec<_> = SchedulerName::ALL
        .into_iter()
        .map(|scheduler| GenerateRequest { scheduler: Some(scheduler), ..plain.clone() })
        .collect();
    all.extend([
        GenerateRequest { negative_prompt: Some("blurry".into()), ..plain.clone() },
        GenerateRequest { guidance_scale: Some(1.0), ..plain.clone() },
        GenerateRequest { guidance_interval: Some([0.0, 0.5]), ..plain.clone() },
        GenerateRequest { guidance_rescale: 0.7, deep_cache: Some(2), ..plain.clone() },
        GenerateRequest { clip_skip: Some(1), ..plain.clone() },
        GenerateRequest { prompt: "word ".repeat(100), ..plain.clone() },
        GenerateRequest {
            prompt: "word ".repeat(2000),
            prompt_syntax: Some(PromptSyntax::A1111),
            ..plain.clone()
        },
        GenerateRequest {
            prompt: "word ".repeat(100),
            prompt_syntax: Some(PromptSyntax::Plain),
            ..plain.clone()
        },
        GenerateRequest {
            prompt: "a (brass:1.3) key BREAK ((old))".into(),
            negative_prompt: Some("(blurry:0.5) BREAK text BREAK photo".into()),
            ..plain.clone()
        },
        GenerateRequest { preset: Some("dmd2".parse().unwrap()), steps: None, ..plain.clone() },
        GenerateRequest { preset: Some("hyper-sd-1".parse().unwrap()), ..plain.clone() },
        GenerateRequest {
            scheduler: Some(SchedulerName::Euler),
            sigmas: Some(vec![14.6, 3.0, 0.4, 0.0]),
            ..plain.clone()
        },
        GenerateRequest { width: Some(64), height: Some(128), ..plain.clone() },
        GenerateRequest { prompt: String::new(), seed: u64::MAX, ..plain },
    ]);
    all
}

/// Everything that a backend shows of a batch: each state of each canvas, a preview, the latents,
/// the words that did not fit, the images.
type Seen = (Vec<(usize, usize, usize)>, Vec<RgbImage>, Vec<Latents>, Vec<Option<String>>, Vec<RgbImage>);

fn seen<B: Backend>(backend: &mut B, requests: &[GenerateRequest]) -> Result<Seen, Error> {
    let mut canvases = begin(backend, requests)?;
    let mut states = vec![];
    while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
        states.extend(canvases.iter().map(|canvas| (canvas.steps_done(), canvas.steps(), canvas.rows())));
        backend.step(&mut canvases.iter_mut().collect::<Vec<_>>())?;
    }
    let previews = canvases.iter().map(|canvas| backend.preview(canvas)).collect::<Result<_, _>>()?;
    let latents = canvases.iter().map(|canvas| backend.latents(canvas)).collect::<Result<_, _>>()?;
    let dropped = canvases.iter().map(|canvas| canvas.dropped_words().map(str::to_owned)).collect();
    let decoding = backend.finish(&canvases.iter().collect::<Vec<_>>())?;
    // The canvases may go before their images are there.
    drop(canvases);
    Ok((states, previews, latents, dropped, decoding.wait()?))
}

#[test]
fn images_alone_and_together_are_the_same_to_the_bit() {
    let _alone = alone();
    for name in ["tiny_sdxl_a", "tiny_sdxl_b", "tiny_sdxl_c"] {
        let (mut linked, mut loaded) = both(name);
        assert_eq!(linked.defaults(), loaded.defaults());
        for batch in requests().chunks(1).chain([requests().as_slice()]) {
            let (linked, loaded) = (seen(&mut linked, batch).unwrap(), seen(&mut loaded, batch).unwrap());
            assert!(linked == loaded, "{name}: {batch:?}");
        }
        assert_eq!(linked.step_flops(), loaded.step_flops());
    }
}

#[test]
fn a_request_that_a_model_cannot_draw_is_refused_in_the_same_words() {
    let _alone = alone();
    let (mut linked, mut loaded) = both("tiny_sdxl_a");
    for wrong in [
        GenerateRequest { steps: Some(0), ..request("a key", 1) },
        GenerateRequest { width: Some(65), height: Some(64), ..request("a key", 1) },
    ] {
        let of = |error: Error| (error.kind(), error.field().map(str::to_owned), error.to_string());
        let linked = begin(&mut linked, std::slice::from_ref(&wrong)).err().map(of);
        let loaded = begin(&mut loaded, &[wrong]).err().map(of);
        assert_eq!(linked, loaded);
        assert!(linked.is_some());
    }
}

#[test]
fn a_model_that_cannot_be_loaded_is_refused_in_the_same_words() {
    let _alone = alone();
    let copy = tempfile::tempdir().unwrap();
    let model = Model::open(folder("tiny_sdxl_a")).unwrap();
    let mut missing = model.clone();
    missing.path = copy.path().join("gone");
    let linked = Sdxl::load(&missing, &CPU).err().unwrap();
    let loaded = LoadedModel::load(libtorch(), &missing, &CPU, &mut |_| ()).err().unwrap();
    assert_eq!((linked.kind(), loaded.kind()), (ErrorKind::InvalidModel, ErrorKind::InvalidModel));

    let absent = Options { device: Device::Cuda(99), ..CPU };
    let linked = Sdxl::load(&model, &absent).err().unwrap();
    let loaded = LoadedModel::load(libtorch(), &model, &absent, &mut |_| ()).err().unwrap();
    assert_eq!((linked.kind(), linked.to_string()), (loaded.kind(), loaded.to_string()));
}

#[test]
fn a_control_net_and_its_image_cross_the_border() {
    let _alone = alone();
    let model = Model::open(folder("tiny_sdxl_a")).unwrap();
    let canny = ControlUse { name: "canny".into(), path: folder("control/canny"), hash: String::new() };
    let controls = vec![canny];
    let picture = RgbaImage::from_fn(8, 8, |x, y| Rgba([(x * 30) as u8, (y * 30) as u8, 60, 255]));
    let read = |_: &str| Ok(SourceImage::new(picture.clone()));
    let control = vec![ControlChoice::of_word("canny:picture.png:0.8:0:0.9:edges", read).unwrap()];
    let request = [GenerateRequest { control, ..request("a brass key", 1) }];
    let of_linked = model.clone().with_controls(&controls).unwrap();
    // The object first: what this thread frees is then counted as it was when it was allocated.
    let variant = Variant { controls, ..Default::default() };
    let mut loaded = LoadedModel::load_changed(libtorch(), &model, &CPU, &variant, &mut |_| ()).unwrap();
    let mut linked = Sdxl::load(&of_linked, &CPU).unwrap();
    let on_step = |_| ControlFlow::Continue(());
    let linked = paint(&mut linked, &request, on_step).unwrap().remove(0).image;
    let loaded = paint(&mut loaded, &request, on_step).unwrap().remove(0).image;
    assert_eq!(linked, loaded);
}

#[test]
fn a_single_file_a_lora_and_a_vae_cross_the_border() {
    let _alone = alone();
    let base = Model::open(folder("tiny_sdxl_a")).unwrap();
    let model = Model::open_on(folder("tiny_sdxl_a.safetensors"), Some(&base)).unwrap();
    let lora = LoraUse {
        name: "kohya".into(),
        path: folder("lora/kohya.safetensors"),
        hash: String::new(),
        weight: 0.8,
        text_weight: 0.6,
    };
    let options = Options { prediction_type: Some(PredictionType::VPrediction), zero_snr: Some(true), ..CPU };
    let copy = tempfile::tempdir().unwrap();
    let vae = VaeUse { name: "inverse".into(), path: copy.path().into(), hash: String::new() };
    inverse_vae(&folder("tiny_sdxl_a/vae"), copy.path());
    let draw = |loras: &[LoraUse], vae: Option<&VaeUse>| {
        let variant = Variant { loras: loras.to_vec(), vae: vae.cloned(), ..Default::default() };
        let of_linked = match vae {
            Some(vae) => model.clone().with_vae(&vae.path).unwrap(),
            None => model.clone(),
        };
        // The object first, as above.
        let mut loaded =
            LoadedModel::load_changed(libtorch(), &model, &options, &variant, &mut |_| ()).unwrap();
        let mut linked = Sdxl::load_merged(&of_linked, &options, loras, &mut |_| ()).unwrap();
        let request = [request("a brass key", 1)];
        let on_step = |_| ControlFlow::Continue(());
        let linked = paint(&mut linked, &request, on_step).unwrap().remove(0).image;
        let loaded = paint(&mut loaded, &request, on_step).unwrap().remove(0).image;
        assert_eq!(linked, loaded);
        linked
    };
    let plain = draw(&[], None);
    assert_ne!(draw(&[lora], None), plain);
    let mut inverse = draw(&[], Some(&vae));
    inverse.iter_mut().for_each(|byte| *byte = 255 - *byte);
    let largest = inverse.iter().zip(plain.iter()).map(|(one, other)| one.abs_diff(*other)).max();
    assert!(largest <= Some(1), "{largest:?}");
}

#[test]
fn the_progress_of_loading_ends_at_all_bytes() {
    let _alone = alone();
    let model = Model::open(folder("tiny_sdxl_a")).unwrap();
    let (mut linked, mut loaded) = (vec![], vec![]);
    Sdxl::load_and_tell(&model, &CPU, &mut |bytes| linked.push(bytes)).unwrap();
    LoadedModel::load(libtorch(), &model, &CPU, &mut |bytes| loaded.push(bytes)).unwrap();
    assert_eq!(linked, loaded);
    assert!(linked.is_sorted() && linked.last() > Some(&0));
}

/// A function of libc10's, by its mangled name.
fn c10(name: &std::ffi::CStr) -> extern "C" fn() -> *mut c_void {
    // SAFETY: both functions that are asked for take nothing and return a pointer or nothing that
    // is read.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        assert!(!symbol.is_null(), "{name:?} is not found");
        std::mem::transmute::<*mut c_void, extern "C" fn() -> *mut c_void>(symbol)
    }
}

#[test]
fn nothing_global_is_touched_in_a_process_that_is_not_ours() {
    let _alone = alone();
    // Whatever libtorch sets up by itself at first use is set up before.
    drop(tch::Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu)).exp());
    let allocator = c10(c"_ZN3c1015GetCPUAllocatorEv");
    let environment: Vec<_> = std::env::vars_os().collect();
    let before = (allocator(), tch::get_num_threads(), tch::get_num_interop_threads());

    let (mut linked, mut loaded) = both("tiny_sdxl_a");
    paint(&mut linked, &[request("a key", 1)], |_| ControlFlow::Continue(())).unwrap();
    paint(&mut loaded, &[request("a key", 1)], |_| ControlFlow::Continue(())).unwrap();
    let mut cpu = LoadedDevice::new(Device::Cpu, false);
    cpu.open().unwrap();
    cpu.limit(1);
    cpu.empty_cache();

    assert_eq!((allocator(), tch::get_num_threads(), tch::get_num_interop_threads()), before);
    assert_eq!(std::env::vars_os().collect::<Vec<_>>(), environment);
    // The limit of one byte is nobody's: an allocation of another user's goes through.
    assert_eq!(tch::Tensor::ones([1 << 20], (tch::Kind::Float, tch::Device::Cpu)).size(), [1 << 20]);
    assert_eq!(report().libtorch.unwrap().1, Origin::Loaded);
}

#[test]
fn memory_is_counted_on_the_threads_that_draw_and_given_back() {
    let _alone = alone();
    let thread = std::thread::spawn(|| {
        let mut cpu = LoadedDevice::new(Device::Cpu, false);
        assert_eq!(cpu.memory(), None);
        cpu.open().unwrap();
        let used = |cpu: &LoadedDevice| cpu.memory().unwrap().used_bytes as i64;
        let before = used(&cpu);
        let model = Model::open(folder("tiny_sdxl_a")).unwrap();
        let mut weights = 0;
        let mut loaded = LoadedModel::load(libtorch(), &model, &CPU, &mut |bytes| weights = bytes).unwrap();
        let held = used(&cpu) - before;
        assert!(held >= weights as i64 && held < 4 * weights as i64, "{held} of {weights}");
        // Another user's tensors on another thread are not the object's.
        let theirs = || tch::Tensor::ones([1 << 20], (tch::Kind::Float, tch::Device::Cpu));
        let theirs = std::thread::spawn(theirs).join().unwrap();
        assert!(used(&cpu) - before < held + (1 << 20));
        paint(&mut loaded, &[request("a key", 1)], |_| ControlFlow::Continue(())).unwrap();
        drop((loaded, theirs));
        used(&cpu) - before
    });
    assert_eq!(thread.join().unwrap(), 0);
}
