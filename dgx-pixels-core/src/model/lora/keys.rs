//! The names in LoRA files: which part of which module a tensor is, in every spelling that is in
//! use.

use std::collections::HashMap;

use crate::model::files::WeightFiles;
use crate::model::{Component, Model, sgm};

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// `[out, rank]`.
    Up,
    /// `[rank, in, ..]`.
    Down,
    /// `[rank, rank, h, w]`, between the two.
    Mid,
    /// A number: the change is multiplied by it and divided by the rank.
    Alpha,
    /// DoRA: the lengths of the rows or columns of the changed weight.
    DoraScale,
    /// The same as PEFT stores it, always of rows.
    Magnitude,
    /// Added to the weight.
    Diff,
    /// Added to the bias.
    Bias,
    /// Put in the weight's place.
    Set,
    /// LoHa.
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    HadaT1,
    HadaT2,
    /// LoKr.
    KronW1,
    KronW1A,
    KronW1B,
    KronW2,
    KronW2A,
    KronW2B,
    KronT2,
    /// (IA)³: factors of rows, or of columns where `OnInput` is 1.
    Factor,
    OnInput,
    /// OFT.
    OftBlocks,
    Rescale,
}

/// The endings of names. One that others end with comes last.
const ENDINGS: [(&str, Part); 42] = [
    (".lora_up.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".lora_mid.weight", Part::Mid),
    (".alpha", Part::Alpha),
    (".dora_scale", Part::DoraScale),
    (".lora_B.weight", Part::Up),
    (".lora_A.weight", Part::Down),
    (".lora_B.bias", Part::Bias),
    (".lora_B.default.weight", Part::Up),
    (".lora_A.default.weight", Part::Down),
    (".lora_B.default.bias", Part::Bias),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector.default.weight", Part::Magnitude),
    (".lora.up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora_linear_layer.down.weight", Part::Down),
    // The attention processors of the first diffusers.
    ("_lora.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    (".diff", Part::Diff),
    (".diff_b", Part::Bias),
    (".w_norm", Part::Diff),
    (".b_norm", Part::Bias),
    (".set_weight", Part::Set),
    (".hada_w1_a", Part::HadaW1A),
    (".hada_w1_b", Part::HadaW1B),
    (".hada_w2_a", Part::HadaW2A),
    (".hada_w2_b", Part::HadaW2B),
    (".hada_t1", Part::HadaT1),
    (".hada_t2", Part::HadaT2),
    (".lokr_w1", Part::KronW1),
    (".lokr_w2", Part::KronW2),
    (".lokr_t2", Part::KronT2),
    (".lokr_w1_a", Part::KronW1A),
    (".lokr_w1_b", Part::KronW1B),
    (".lokr_w2_a", Part::KronW2A),
    (".lokr_w2_b", Part::KronW2B),
    (".on_input", Part::OnInput),
    (".oft_blocks", Part::OftBlocks),
    (".rescale", Part::Rescale),
    // Only beside `.on_input`.
    (".weight", Part::Factor),
];

/// Splits a tensor's name into its module and its part.
pub(super) fn split(name: &str) -> Option<(&str, Part)> {
    ENDINGS.iter().find_map(|(ending, part)| Some((name.strip_suffix(ending)?, *part)))
}

/// What names of the UNet's modules begin with, dots written as `_`.
const UNET: [&str; 8] = [
    "lora_unet_",
    "oft_unet_",
    "lycoris_",
    "unet_",
    "base_model_model_unet_",
    "base_model_model_",
    "diffusion_model_",
    "",
];
/// What names of the first text encoder's modules begin with.
const TEXT: [&str; 6] = [
    "lora_te1_",
    // One number less: diffusers takes it for the first.
    "lora_te_",
    "oft_te1_",
    "text_encoder_",
    "base_model_model_text_encoder_",
    "text_encoders_clip_l_",
];
/// What names of the second text encoder's modules begin with.
const TEXT_2: [&str; 5] =
    ["lora_te2_", "oft_te2_", "text_encoder_2_", "base_model_model_text_encoder_2_", "text_encoders_clip_g_"];

/// A module of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The component that has it.
    pub(crate) component: Component,
    /// The name of its weight, without `.weight`.
    pub(crate) name: String,
    /// The sides of its weight.
    pub(crate) shape: Vec<usize>,
    /// `true` if it has a bias.
    pub(crate) has_bias: bool,
}

/// The modules of a model under all names that LoRA files have for them.
pub(crate) struct Targets {
    all: Vec<Target>,
    unet: HashMap<String, usize>,
    text: HashMap<String, usize>,
    text_2: HashMap<String, usize>,
}

impl Targets {
    /// Lists the modules of a model by the headers of its weights.
    pub(crate) fn of(model: &Model, weights: &[(Component, WeightFiles)]) -> Targets {
        let mut targets =
            Targets { all: vec![], unet: HashMap::new(), text: HashMap::new(), text_2: HashMap::new() };
        let layers = *model.unet.layers_per_block.get(0);
        let attends = |block: usize| {
            model.unet.up_block_types.get(block).is_some_and(|class| class == "CrossAttnUpBlock2D")
        };
        for (component, files) in weights {
            for (name, weight) in files.tensors() {
                let Some(name) = name.strip_suffix(".weight") else { continue };
                let mut shape = weight.shape.clone();
                if weight.is_transposed {
                    shape.reverse();
                }
                let has_bias = files.get(&format!("{name}.bias")).is_some();
                targets.add(
                    Target { component: *component, name: name.to_owned(), shape, has_bias },
                    layers,
                    attends,
                );
            }
        }
        targets
    }

    fn add(&mut self, target: Target, layers: usize, attends: impl Fn(usize) -> bool) {
        let place = self.all.len();
        let flat = target.name.replace('.', "_");
        match target.component {
            Component::UNet => {
                if let Some(name) = sgm::unet_from_diffusers(&target.name, layers, attends) {
                    self.unet.insert(name.replace('.', "_"), place);
                }
                self.unet.insert(flat, place);
            }
            Component::TextEncoder | Component::TextEncoder2 => {
                let table = if target.component == Component::TextEncoder {
                    &mut self.text
                } else {
                    &mut self.text_2
                };
                let short = flat.strip_prefix("text_model_").unwrap_or(&flat);
                table.insert(format!("text_model_{short}"), place);
                table.insert(short.to_owned(), place);
            }
            Component::Vae => return,
        }
        self.all.push(target);
    }

    /// The module that a LoRA file calls `name`.
    pub(super) fn find(&self, name: &str) -> Option<&Target> {
        let mut flat = name.replace('.', "_");
        // The attention processors of the first diffusers have names of their own.
        if let Some(at) = flat.find("_processor_") {
            flat.replace_range(at.."_processor_".len() + at - 1, "");
            if flat.ends_with("_to_out") {
                flat.push_str("_0");
            }
        }
        for (ending, of_text) in
            [("_to_q", "_q_proj"), ("_to_k", "_k_proj"), ("_to_v", "_v_proj"), ("_to_out", "_out_proj")]
        {
            if let Some(start) = flat.strip_suffix(ending).filter(|start| start.ends_with("self_attn")) {
                flat = format!("{start}{of_text}");
            }
        }
        let look = |prefixes: &[&str], table: &HashMap<String, usize>| {
            prefixes.iter().find_map(|prefix| table.get(flat.strip_prefix(prefix)?).copied())
        };
        let place = look(&TEXT_2, &self.text_2)
            .or_else(|| look(&TEXT, &self.text))
            .or_else(|| look(&UNET, &self.unet))?;
        self.all.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdxl() -> Targets {
        let mut targets =
            Targets { all: vec![], unet: HashMap::new(), text: HashMap::new(), text_2: HashMap::new() };
        let attends = |block| block < 2;
        let clip = |component, layers: usize, targets: &mut Targets| {
            for i in 0..layers {
                for module in [
                    "self_attn.q_proj",
                    "self_attn.k_proj",
                    "self_attn.v_proj",
                    "self_attn.out_proj",
                    "mlp.fc1",
                    "mlp.fc2",
                ] {
                    let name = format!("text_model.encoder.layers.{i}.{module}");
                    targets.add(Target { component, name, shape: vec![], has_bias: true }, 2, attends);
                }
            }
        };
        for line in include_str!("../../../../tests/fixtures/sdxl_names.txt").lines() {
            let Some((_, name)) = line.strip_prefix("unet ").and_then(|pair| pair.split_once(' ')) else {
                continue;
            };
            if let Some(name) = name.strip_suffix(".weight") {
                let (component, name) = (Component::UNet, name.to_owned());
                targets.add(Target { component, name, shape: vec![], has_bias: true }, 2, attends);
            }
        }
        clip(Component::TextEncoder, 12, &mut targets);
        clip(Component::TextEncoder2, 32, &mut targets);
        targets
    }

    #[test]
    fn all_modules_of_sdxl_are_found_under_both_names_and_no_two_are_one() {
        let targets = sdxl();
        let attends = |block| block < 2;
        let (mut linears, mut others, mut texts) = (0, 0, 0);
        for target in &targets.all {
            let name = &target.name;
            let flat = name.replace('.', "_");
            let spellings = match target.component {
                Component::UNet => {
                    let sgm = sgm::unet_from_diffusers(name, 2, attends).unwrap();
                    let sgm_flat = sgm.replace('.', "_");
                    vec![
                        format!("lora_unet_{sgm_flat}"),
                        format!("lora_unet_{flat}"),
                        format!("unet.{name}"),
                        format!("base_model.model.{name}"),
                        format!("diffusion_model.{sgm}"),
                        format!("lycoris_{flat}"),
                        name.clone(),
                    ]
                }
                Component::TextEncoder => vec![
                    format!("lora_te1_{flat}"),
                    format!("lora_te_{flat}"),
                    format!("text_encoder.{name}"),
                ],
                _ => vec![format!("lora_te2_{flat}"), format!("text_encoder_2.{name}")],
            };
            for spelling in spellings {
                assert_eq!(targets.find(&spelling), Some(target), "{spelling}");
            }
            // The lists of modules that kohya's and the LCM authors' programs train.
            let in_transformer = name.contains(".attentions.") && !name.contains("norm");
            let in_lcm = [
                ".conv1",
                ".conv2",
                ".conv_shortcut",
                "downsamplers.0.conv",
                "upsamplers.0.conv",
                ".time_emb_proj",
            ];
            linears += usize::from(in_transformer);
            others += usize::from(in_lcm.iter().any(|end| name.ends_with(end)));
            texts += usize::from(target.component != Component::UNet);
        }
        assert_eq!((linears, others, texts), (722, 66, 264));
    }

    #[test]
    fn the_first_diffusers_spelling_is_known() {
        let targets = sdxl();
        let block = "down_blocks.1.attentions.0.transformer_blocks.0.attn1";
        for (name, expected) in [
            (format!("unet.{block}.processor.to_q_lora.down.weight"), format!("{block}.to_q")),
            (format!("unet.{block}.processor.to_out_lora.up.weight"), format!("{block}.to_out.0")),
            (
                "text_encoder.text_model.encoder.layers.3.self_attn.to_k_lora.up.weight".into(),
                "text_model.encoder.layers.3.self_attn.k_proj".into(),
            ),
            (
                "text_encoder_2.text_model.encoder.layers.3.self_attn.to_out_lora.up.weight".into(),
                "text_model.encoder.layers.3.self_attn.out_proj".into(),
            ),
            (
                "text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.up.weight".into(),
                "text_model.encoder.layers.3.mlp.fc1".into(),
            ),
        ] {
            let (module, _) = split(&name).unwrap();
            assert_eq!(targets.find(module).map(|target| &target.name), Some(&expected), "{name}");
        }
    }

    #[test]
    fn modules_of_other_models_are_not_guessed() {
        let targets = sdxl();
        for name in [
            "lora_unet_down_blocks_0_attentions_0_proj_in",
            "lora_te_text_model_encoder_layers_12_mlp_fc1",
            "lora_te3_x",
            "",
            "lora_unet_",
        ] {
            assert_eq!(targets.find(name), None, "{name}");
        }
    }
}
