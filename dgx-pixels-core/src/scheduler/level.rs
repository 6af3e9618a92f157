//! The parts of a sample at one noise level, and the reading of the UNet's answer there.

use super::{Noised, PredictionType, Readout};

/// A sample is `alpha` · picture + `sigma` · noise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) alpha: f64,
    pub(super) sigma: f64,
    /// The level as the schedule counts it, which `flow_prediction` scales by.
    raw: f64,
}

impl Level {
    /// Noise of size `sigma` added to a picture, then both scaled to unit variance.
    pub(super) fn of_sigma(sigma: f64) -> Level {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        Level { alpha, sigma: sigma * alpha, raw: sigma }
    }

    /// Noise of size `sigma` added to a picture, and nothing scaled but for the UNet.
    pub(super) fn of_unscaled_sigma(sigma: f64) -> Level {
        Level { alpha: 1.0, sigma, raw: sigma }
    }

    /// On the straight line from picture (0) to noise (1).
    pub(super) fn of_flow(sigma: f64) -> Level {
        Level { alpha: 1.0 - sigma, sigma, raw: sigma }
    }

    /// Of the share of the picture's variance that is left.
    pub(super) fn of_alpha_cumprod(alpha_cumprod: f64) -> Level {
        let (alpha, sigma) = (alpha_cumprod.sqrt(), (1.0 - alpha_cumprod).sqrt());
        Level { alpha, sigma, raw: sigma / alpha }
    }

    /// The factors of picture and noise.
    pub(super) fn noised(self) -> Noised {
        Noised { image: self.alpha, noise: self.sigma }
    }

    /// Half the logarithm of the signal-to-noise ratio; infinite without noise.
    pub(super) fn lambda(self) -> f64 {
        self.alpha.ln() - self.sigma.ln()
    }

    /// Reads the picture.
    pub(super) fn picture(self, prediction: PredictionType) -> Readout {
        let Level { alpha, sigma, raw } = self;
        let (sample, output) = match prediction {
            PredictionType::Epsilon => (1.0 / alpha, -sigma / alpha),
            PredictionType::Sample => (0.0, 1.0),
            PredictionType::VPrediction => (alpha, -sigma),
            PredictionType::FlowPrediction => (1.0, -raw),
        };
        Readout { sample, output, clip: None }
    }

    /// Reads the noise. Flow models have no such reading: callers refuse `flow_prediction` before.
    pub(super) fn noise(self, prediction: PredictionType) -> Readout {
        let Level { alpha, sigma, .. } = self;
        let (sample, output) = match prediction {
            PredictionType::Epsilon => (0.0, 1.0),
            PredictionType::Sample => (1.0 / sigma, -alpha / sigma),
            PredictionType::VPrediction => (sigma, alpha),
            PredictionType::FlowPrediction => {
                unreachable!("refused when the scheduler was made; this is a bug")
            }
        };
        Readout { sample, output, clip: None }
    }

    /// Reads the picture where the sample is picture + noise, scaled only for the UNet.
    pub(super) fn picture_unscaled(self, prediction: PredictionType) -> Readout {
        let readout = self.picture(prediction);
        Readout { sample: readout.sample * self.alpha, ..readout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_and_noise_make_up_the_sample() {
        let level = Level::of_sigma(3.0);
        for prediction in [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction] {
            let (picture, noise) = (level.picture(prediction), level.noise(prediction));
            let made_up = |picture: f64, noise: f64| level.alpha * picture + level.sigma * noise;
            assert!((made_up(picture.sample, noise.sample) - 1.0).abs() < 1e-15);
            assert!(made_up(picture.output, noise.output).abs() < 1e-15);
        }
    }
}
