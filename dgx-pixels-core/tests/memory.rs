//! What is counted of memory is what the system sees, and a limit on it holds.

#![cfg(feature = "torch")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dgx_pixels_core::backend::DeviceMemory as _;
use dgx_pixels_core::backend::{Backend, Canvas, begin};
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::torch::{
    Device, Options, Sdxl, SdxlCanvas, devices, limit_memory, memory_stats, own_process, reset_peak,
};
use dgx_pixels_core::{Error, GenerateRequest, Model};

fn model(name: &str) -> Sdxl {
    own_process().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let options = Options { device: Device::Cpu, ..Default::default() };
    Sdxl::load(&Model::open(path).unwrap(), &options).unwrap()
}

fn requests(side: u32, count: u64) -> Vec<GenerateRequest> {
    (0..count)
        .map(|seed| GenerateRequest {
            prompt: format!("a brass key {seed}"),
            seed,
            width: Some(side),
            height: Some(side),
            steps: Some(2),
            ..Default::default()
        })
        .collect()
}

/// A field of `/proc/self/status` in bytes.
fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn step(sdxl: &mut Sdxl, canvases: &mut [SdxlCanvas]) -> Result<(), Error> {
    sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>())
}

/// What the device tells of its peak during `work`, and what the system saw; both above what was
/// there before.
fn peaks(work: impl FnOnce()) -> (u64, u64) {
    own_process().unwrap();
    let mut cpu = devices(&[Device::Cpu]).unwrap().remove(0);
    cpu.empty_cache();
    // Makes the most that was ever resident what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    cpu.reset_peak();
    let before = (cpu.memory().unwrap().used_bytes, resident("VmRSS"));
    work();
    (cpu.memory().unwrap().peak_bytes - before.0, resident("VmHWM").saturating_sub(before.1))
}

#[test]
fn the_peak_that_is_told_is_the_one_that_is_resident() {
    let _alone = alone();
    let mut sdxl = model("models/sprite-xl");
    // The first time, code is read and compiled.
    let mut first = begin(&mut sdxl, &requests(256, 1)).unwrap();
    step(&mut sdxl, &mut first).unwrap();
    sdxl.finish(&[&first[0]]).unwrap().wait().unwrap();
    drop(first);
    let cases = [(256, 1), (256, 4), (512, 1), (512, 4), (256, 8), (512, 8)];
    let cases = if std::env::var_os("DGX_PIXELS_ALL_SIZES").is_some() { &cases[..] } else { &cases[..4] };
    for (side, count) in cases {
        let mut canvases = begin(&mut sdxl, &requests(*side, *count)).unwrap();
        let stepped = peaks(|| step(&mut sdxl, &mut canvases).unwrap());
        let decoded =
            peaks(|| drop(sdxl.finish(&canvases.iter().collect::<Vec<_>>()).unwrap().wait().unwrap()));
        for (stage, (told, real)) in [("step", stepped), ("decoding", decoded)] {
            let case = format!("{stage} of {count} at {side}: told {told}, resident {real} bytes");
            assert!(told as f64 >= 0.98 * real as f64, "{case}");
            // Of what is told some megabytes are for what may stay beside tensors, and a part for
            // those of the model.
            assert!(told as f64 <= 1.1 * real as f64 + (24 << 20) as f64, "{case}");
        }
    }
}

/// Does `work` while tensors may take `spare` bytes more than now.
fn limited<T>(spare: u64, work: impl FnOnce() -> T) -> T {
    struct Lift;
    impl Drop for Lift {
        fn drop(&mut self) {
            limit_memory(Device::Cpu, u64::MAX).unwrap();
        }
    }
    let _lift = Lift;
    limit_memory(Device::Cpu, used() + spare).unwrap();
    work()
}

fn used() -> u64 {
    memory_stats(Device::Cpu).unwrap().allocated_bytes
}

#[test]
fn a_refused_step_moves_no_canvas_and_goes_on_when_the_limit_is_lifted() {
    let _alone = alone();
    let mut sdxl = model("tests/fixtures/tiny_sdxl_a");
    let mut requests = requests(64, 3);
    requests[1].scheduler = Some(SchedulerName::EulerAncestral);
    let mut draw = |refused_at: &[f64]| {
        let mut canvases = begin(&mut sdxl, &requests).unwrap();
        for steps_done in 0..2 {
            // What a step takes, from one that is not kept.
            let mut tried = begin(&mut sdxl, &requests).unwrap();
            let before = used();
            reset_peak(Device::Cpu).unwrap();
            step(&mut sdxl, &mut tried).unwrap();
            let takes = memory_stats(Device::Cpu).unwrap().peak_bytes - before;
            for share in refused_at {
                let before: Vec<_> = canvases.iter().map(|canvas| canvas.latents().unwrap()).collect();
                let spare = (takes as f64 * share) as u64;
                let error = limited(spare, || step(&mut sdxl, &mut canvases)).unwrap_err();
                assert_eq!(error.to_string(), "out of memory on `cpu` while denoising");
                assert!(canvases.iter().all(|canvas| canvas.steps_done() == steps_done));
                let after: Vec<_> = canvases.iter().map(|canvas| canvas.latents().unwrap()).collect();
                assert_eq!(after, before);
            }
            step(&mut sdxl, &mut canvases).unwrap();
        }
        sdxl.finish(&canvases.iter().collect::<Vec<_>>()).unwrap().wait().unwrap()
    };
    assert_eq!(draw(&[0.0, 0.1, 0.5, 0.8]), draw(&[]));
}

#[test]
fn a_refused_beginning_leaves_nothing_behind() {
    let _alone = alone();
    let mut sdxl = model("tests/fixtures/tiny_sdxl_a");
    // Fills the texts that are kept.
    drop(begin(&mut sdxl, &requests(64, 12)).unwrap());
    let before = used();
    let another = GenerateRequest { prompt: "another".into(), ..Default::default() };
    let error = limited(1 << 14, || begin(&mut sdxl, &[another])).err();
    assert_eq!(error.unwrap().to_string(), "out of memory on `cpu` while encoding the prompt");
    assert_eq!(used(), before);
}
