//! The words for the meaning of a UNet's answer.

use std::str::FromStr;

use super::PredictionType;
use crate::value_error::ValueError;

impl PredictionType {
    /// All, the most usual first.
    pub const ALL: [PredictionType; 4] = [
        PredictionType::Epsilon,
        PredictionType::VPrediction,
        PredictionType::Sample,
        PredictionType::FlowPrediction,
    ];

    /// The word, for example `v_prediction`.
    pub fn as_str(self) -> &'static str {
        match self {
            PredictionType::Epsilon => "epsilon",
            PredictionType::Sample => "sample",
            PredictionType::VPrediction => "v_prediction",
            PredictionType::FlowPrediction => "flow_prediction",
        }
    }
}

impl FromStr for PredictionType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<PredictionType, ValueError> {
        let found = PredictionType::ALL.into_iter().find(|one| one.as_str() == text);
        let expected = "`epsilon`, `v_prediction`, `sample` or `flow_prediction`";
        found.ok_or_else(|| ValueError::new("prediction_type", text, expected))
    }
}
