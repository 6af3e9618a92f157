//! Every scheduler against tables and whole runs that diffusers made, without libtorch:
//! `tests/fixtures/schedulers/make_schedulers.py`.

use dgx_pixels_core::scheduler::{Mix, Scheduler, SchedulerConfig, SchedulerError, SchedulerName, Steps};
use serde::Deserialize;

/// One scheduler's file.
#[derive(Deserialize)]
struct Golden {
    /// Whether a step's noise is drawn in `f32` for a model in `bf16`; none is drawn where it is
    /// absent.
    noise_in_f32: Option<bool>,
    noise: Vec<[f64; 4]>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    config: String,
    steps: usize,
    /// The caller's own timesteps, in place of a number.
    given_timesteps: Option<Vec<u32>>,
    /// The caller's own noise levels, in place of a number.
    given_sigmas: Option<Vec<f64>>,
    /// The share of fresh noise, where it is not the class's own.
    eta: Option<f64>,
    /// diffusers raises here, or ends in values that are not finite.
    #[serde(default)]
    fails: bool,
    #[serde(default)]
    initial_sigma: f64,
    #[serde(default)]
    timesteps: Vec<f64>,
    /// Absent where all are 1.
    scales: Option<Vec<f64>>,
    #[serde(default)]
    samples: Vec<[f64; 4]>,
}

const FIRST: [f64; 4] = [0.7, -1.3, 0.2, 2.1];
/// diffusers computes in `f32`.
const TOLERANCE: f64 = 2e-5;

fn golden(name: SchedulerName) -> Golden {
    let path = format!("{}/../tests/fixtures/schedulers/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What stands in for the UNet.
fn answer(x: f64, timestep: f64) -> f64 {
    (0.9 * x + 0.3 * (timestep / 100.0).sin()).tanh() + 0.1 * x
}

/// The sample after each evaluation, mixed as the tensor code mixes.
fn run(scheduler: &dyn Scheduler, noise: &[[f64; 4]]) -> Vec<[f64; 4]> {
    let mut sample = FIRST.map(|x| x * scheduler.initial_sigma());
    let (mut previous, mut anchor, mut drawn) = ([[0.0; 4]; 3], [0.0; 4], 0);
    let mut samples = Vec::new();
    for (i, timestep) in scheduler.timesteps().iter().enumerate() {
        let output = sample.map(|x| answer(x * scheduler.input_scale(i), *timestep));
        let readout = scheduler.denoised(i);
        let limit = readout.clip.unwrap_or(f64::INFINITY);
        let denoised: [f64; 4] = std::array::from_fn(|j| {
            (readout.sample * sample[j] + readout.output * output[j]).clamp(-limit, limit)
        });
        let step = scheduler.step(i);
        let noise = noise[drawn % noise.len()];
        drawn += usize::from(step.next.noise != 0.0);
        let mixed = |mix: &Mix| -> [f64; 4] {
            std::array::from_fn(|j| {
                let terms = [
                    (mix.sample, sample[j]),
                    (mix.output, output[j]),
                    (mix.denoised, denoised[j]),
                    (mix.previous[0], previous[0][j]),
                    (mix.previous[1], previous[1][j]),
                    (mix.previous[2], previous[2][j]),
                    (mix.anchor, anchor[j]),
                    (mix.noise, noise[j]),
                ];
                terms.iter().filter(|(factor, _)| *factor != 0.0).map(|(factor, value)| factor * value).sum()
            })
        };
        let next = mixed(&step.next);
        if let Some(keep) = &step.keep {
            anchor = mixed(keep);
        }
        previous = [denoised, previous[0], previous[1]];
        sample = next;
        samples.push(sample);
    }
    samples
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= TOLERANCE * theirs.abs().max(1.0)
}

fn check(name: SchedulerName) {
    let golden = golden(name);
    assert!(golden.cases.len() > 20, "{name} has {} cases", golden.cases.len());
    for case in &golden.cases {
        let what = format!("{name}, {}, {} steps", case.case, case.steps);
        let steps = match (&case.given_timesteps, &case.given_sigmas) {
            (Some(timesteps), _) => Steps::Timesteps(timesteps.clone()),
            (_, Some(sigmas)) => Steps::Sigmas(sigmas.clone()),
            _ => Steps::Number(case.steps),
        };
        let built = SchedulerConfig::from_json(&case.config)
            .and_then(|config| SchedulerConfig { eta: case.eta, ..config }.with_name(name).build_for(&steps));
        if case.fails {
            // diffusers raises or ends in NaN; ours may refuse or draw, and may not panic.
            if let Ok(scheduler) = built {
                run(&*scheduler, &golden.noise);
            }
            continue;
        }
        let given = case.given_timesteps.as_deref().unwrap_or_default();
        if given.windows(2).any(|pair| pair[1] >= pair[0]) || given.first() == Some(&1000) {
            // diffusers goes back to more noise, or past the end of training, where its class does
            // not look.
            assert!(matches!(built, Err(SchedulerError::Option { .. })), "{what}: refused");
            continue;
        }
        if name == SchedulerName::Ddim && case.timesteps.last() == Some(&-1.0) {
            // Rounding gave `trailing` one timestep too many, and diffusers reads its tables from
            // the other end.
            assert!(matches!(built, Err(SchedulerError::Steps { .. })), "{what}: refused");
            continue;
        }
        if name == SchedulerName::Ddim && case.case == "zero SNR epsilon clipped" {
            // The first timestep holds no signal to divide by; diffusers clips infinities to
            // pictures of nothing.
            assert!(built.is_err(), "{what}: refused");
            continue;
        }
        let scheduler = built.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(scheduler.timesteps().len(), case.timesteps.len(), "{what}: number of timesteps");
        for (i, (ours, theirs)) in scheduler.timesteps().iter().zip(&case.timesteps).enumerate() {
            assert_eq!(*ours as f32, *theirs as f32, "{what}: timestep {i}");
        }
        assert!(close(scheduler.initial_sigma(), case.initial_sigma), "{what}: initial sigma");
        for i in 0..case.timesteps.len() {
            let theirs = case.scales.as_ref().map_or(1.0, |scales| scales[i]);
            assert!(close(scheduler.input_scale(i), theirs), "{what}: input scale {i}");
        }
        // What a step takes away leaves its rounding behind, more of it where there is no signal at
        // first.
        let largest =
            case.samples.iter().flatten().fold(case.initial_sigma, |largest, x| largest.max(x.abs()));
        let tolerance = if largest > 1000.0 { 1e-4 } else { TOLERANCE };
        for (i, (ours, theirs)) in run(&*scheduler, &golden.noise).iter().zip(&case.samples).enumerate() {
            for (ours, theirs) in ours.iter().zip(theirs) {
                let difference = (ours - theirs).abs();
                assert!(
                    difference <= tolerance * largest.max(1.0),
                    "{what}: step {i}: {ours} is not {theirs}"
                );
            }
        }
        if let Some(in_f32) = golden.noise_in_f32 {
            assert_eq!(scheduler.noise_in_f32(), in_f32, "{what}: noise in f32");
        }
    }
}

#[test]
fn euler_matches_diffusers() {
    check(SchedulerName::Euler);
}

#[test]
fn euler_ancestral_matches_diffusers() {
    check(SchedulerName::EulerAncestral);
}

#[test]
fn heun_matches_diffusers() {
    check(SchedulerName::Heun);
}

#[test]
fn ddim_matches_diffusers() {
    check(SchedulerName::Ddim);
}

#[test]
fn dpmpp_2m_matches_diffusers() {
    check(SchedulerName::Dpmpp2m);
}

#[test]
fn dpmpp_2m_sde_matches_diffusers() {
    check(SchedulerName::Dpmpp2mSde);
}

#[test]
fn unipc_matches_diffusers() {
    check(SchedulerName::UniPc);
}

#[test]
fn lcm_matches_diffusers() {
    check(SchedulerName::Lcm);
}

#[test]
fn tcd_matches_diffusers() {
    check(SchedulerName::Tcd);
}

#[test]
fn edm_euler_matches_diffusers() {
    check(SchedulerName::EdmEuler);
}

#[test]
fn edm_dpmpp_2m_matches_diffusers() {
    check(SchedulerName::EdmDpmpp2m);
}
