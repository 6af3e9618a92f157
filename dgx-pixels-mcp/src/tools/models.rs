//! `list_models`.

use std::path::PathBuf;

use dgx_pixels_core::model::search;
use dgx_pixels_core::pixel::Palette;
use dgx_pixels_core::scheduler::SchedulerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answer, Call, Group, Kind, reads};
use crate::answer::structured;
use crate::studio::ModelCard;
use crate::styles;

pub(super) fn tools() -> Vec<Kind> {
    let kind =
        Kind::new(Group::Generate, "list_models", "List models, styles and palettes", reads(), list_models);
    vec![kind.with_output::<Choices>()]
}

/// Lists what `generate_sprite` can be given: models, LoRAs, VAEs, control nets, textual
/// inversions, style presets, palettes and schedulers.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListModels {}

#[derive(Serialize, JsonSchema)]
struct Choices {
    models: Vec<ModelCard>,
    /// The names that `lora` takes.
    loras: Vec<String>,
    /// The names that `vae` takes.
    vaes: Vec<String>,
    /// The names that `model` in `control` takes.
    controls: Vec<String>,
    /// The names that `embedding:NAME` in a prompt takes.
    embeddings: Vec<String>,
    styles: Vec<StyleLine>,
    palettes: Vec<&'static str>,
    schedulers: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct StyleLine {
    name: &'static str,
    description: &'static str,
}

async fn list_models(call: Call, _: ListModels) -> Answer {
    let styles = styles::all().iter();
    let places = search::places();
    let names = |found: Vec<(String, PathBuf)>| found.into_iter().map(|(name, _)| name).collect();
    structured(&Choices {
        models: call.studio.models().to_vec(),
        loras: names(search::loras(&places)),
        vaes: names(search::vaes(&places)),
        controls: names(search::controls(&places)),
        embeddings: names(search::embeddings(&places)),
        styles: styles
            .map(|style| StyleLine { name: &style.name, description: &style.description })
            .collect(),
        palettes: Palette::names().collect(),
        schedulers: SchedulerName::ALL.iter().map(ToString::to_string).collect(),
    })
}
