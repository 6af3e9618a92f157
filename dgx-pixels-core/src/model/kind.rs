//! The kind of a file of weights: what the names, sides and notes in its header say.

use std::fmt;

use super::files::Shard;
use super::header::{Header, shown};

/// The kind of a safetensors file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A model of the SDXL family in the layout that Stability AI trained it in, as model sites
    /// have it.
    Sdxl,
    /// The UNet of a model of the SDXL family alone, under diffusers' names.
    SdxlUNet,
    /// A LoRA, or another small change to a model.
    Lora,
    /// A VAE alone.
    Vae,
    /// A control net alone, for a model of any base.
    ControlNet,
    /// A textual inversion for both text encoders: vectors that a prompt names.
    Embedding,
    /// A model or a part that this program does not compute.
    Other(&'static str),
    /// Nothing that is known.
    Unknown,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Sdxl => "an SDXL checkpoint",
            FileKind::SdxlUNet => "the UNet of an SDXL model",
            FileKind::Lora => "a LoRA",
            FileKind::Vae => "a VAE",
            FileKind::ControlNet => "a ControlNet",
            FileKind::Embedding => "a textual inversion",
            FileKind::Other(name) => name,
            FileKind::Unknown => "a file of an unknown kind",
        })
    }
}

/// The endings by which names of a LoRA and its kin are known.
const LORA_MARKS: [&str; 14] = [
    ".lora_up.weight",
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    "_lora.down.weight",
    ".lora_linear_layer.down.weight",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w1_a",
    ".oft_blocks",
    ".on_input",
    ".diff",
];

/// Where a checkpoint's UNet may begin.
pub(super) const UNET_PREFIXES: [&str; 3] = ["model.diffusion_model.", "diffusion_model.", ""];
/// Where a UNet under diffusers' names may begin.
pub(super) const DIFFUSERS_PREFIXES: [&str; 4] = ["", "unet.", "model.", "model.diffusion_model."];
/// Where a VAE may begin.
pub(super) const VAE_PREFIXES: [&str; 3] = ["first_stage_model.", "vae.", ""];

/// The first of `prefixes` under which `name` is in the file.
pub(super) fn prefix_of(header: &Header, prefixes: &[&'static str], name: &str) -> Option<&'static str> {
    prefixes.iter().copied().find(|prefix| header.tensor(&format!("{prefix}{name}")).is_some())
}

impl FileKind {
    /// The kind of this file.
    pub fn of(file: &Shard) -> FileKind {
        FileKind::of_header(&file.header)
    }

    pub(super) fn of_header(header: &Header) -> FileKind {
        let side = |name: &str, i: usize| header.tensor(name).and_then(|tensor| tensor.shape.get(i).copied());
        let any = |mark: &str| header.tensors.iter().any(|tensor| tensor.name.contains(mark));

        // 1. small changes, whose names may contain those of models
        if header.tensors.iter().any(|tensor| LORA_MARKS.iter().any(|mark| tensor.name.ends_with(mark))) {
            return FileKind::Lora;
        }
        // 2. other architectures
        for (mark, name) in [
            ("double_blocks.0.img_attn", "a Flux model"),
            ("joint_blocks.0.context_block", "a Stable Diffusion 3 model"),
            ("control_add_embedding.", "a ControlNet-Union"),
            ("lllite_unet_", "a ControlNet-LLLite"),
            ("motion_modules.0", "a motion module of AnimateDiff"),
            ("cap_embedder.0", "a Lumina model"),
            ("pooled_embedder", "a Hunyuan model"),
        ] {
            if any(mark) {
                return FileKind::Other(name);
            }
        }
        if any("input_hint_block.0.") || any("controlnet_cond_embedding.conv_in.") {
            return FileKind::ControlNet;
        }
        if header.tensor("clip_l").is_some() || header.tensor("clip_g").is_some() {
            return FileKind::Embedding;
        }
        if header.tensor("emb_params").is_some() {
            return FileKind::Other("a textual inversion for Stable Diffusion 1 or 2");
        }
        // 3. UNets, by the width of the text and by what conditions them besides
        if let Some(prefix) = prefix_of(header, &UNET_PREFIXES, "input_blocks.0.0.weight") {
            let label = side(&format!("{prefix}label_emb.0.0.weight"), 1);
            let is_refiner = header
                .tensor("conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias")
                .is_some();
            if is_refiner || label == Some(2560) {
                return FileKind::Other("the SDXL refiner");
            }
            let to_k = |tensor: &&super::header::StoredTensor| {
                tensor.name.starts_with(prefix) && tensor.name.ends_with(".attn2.to_k.weight")
            };
            let text = header.tensors.iter().find(to_k).and_then(|tensor| tensor.shape.get(1).copied());
            return match (label, text) {
                (Some(_), _) => match side(&format!("{prefix}input_blocks.0.0.weight"), 1) {
                    Some(8) => FileKind::Other("an SDXL model for editing, with 8 input channels"),
                    _ => FileKind::Sdxl,
                },
                (None, Some(768)) => FileKind::Other("a Stable Diffusion 1 model"),
                (None, Some(1024)) => FileKind::Other("a Stable Diffusion 2 model"),
                (None, _) => FileKind::Unknown,
            };
        }
        if prefix_of(header, &DIFFUSERS_PREFIXES, "add_embedding.linear_1.weight").is_some() {
            return FileKind::SdxlUNet;
        }
        if prefix_of(header, &DIFFUSERS_PREFIXES, "down_blocks.0.resnets.0.conv1.weight").is_some() {
            return FileKind::Other("the UNet of a Stable Diffusion 1 or 2 model");
        }
        // 4. parts
        if prefix_of(header, &VAE_PREFIXES, "decoder.conv_in.weight").is_some() {
            return FileKind::Vae;
        }
        if any("text_model.encoder.layers.0.") || any("transformer.resblocks.0.") {
            return FileKind::Other("a text encoder alone");
        }
        FileKind::Unknown
    }

    /// The reason why a file of this kind is no model, and the next step.
    pub(super) fn refusal(self, header: &Header) -> String {
        const EXPECTED: &str = "expected a model of the SDXL family";
        match self {
            FileKind::Lora => {
                "it is a LoRA, which changes a model; name a model with `--model`, and this file with `--lora`".into()
            }
            FileKind::Vae => format!("it is a VAE alone; {EXPECTED}"),
            FileKind::ControlNet => {
                "it is a ControlNet, which goes with a model; name a model with `--model`, and this file with \
                 `--control`"
                    .into()
            }
            FileKind::Embedding => {
                "it is a textual inversion; put it into the folder `embeddings` of a model folder, and write \
                 `embedding:NAME` in a prompt"
                    .into()
            }
            FileKind::Other(name) if name.starts_with("an SDXL model") => {
                format!("it is {name}, which this program does not compute yet; {EXPECTED} that draws from a prompt alone")
            }
            FileKind::Other(name) => format!("it is {name}; {EXPECTED}"),
            FileKind::Sdxl | FileKind::SdxlUNet | FileKind::Unknown => {
                let first = header.tensors.first().map(|tensor| format!(", the first of them `{}`", shown(&tensor.name)));
                let (count, first) = (header.tensors.len(), first.unwrap_or_default());
                format!("none of its {count} tensors{first} has a name of a known model; {EXPECTED}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::StoredTensor;
    use super::*;

    fn kind(tensors: &[(&str, &[usize])]) -> FileKind {
        let tensors = tensors
            .iter()
            .map(|(name, shape)| StoredTensor {
                name: (*name).into(),
                dtype: safetensors::Dtype::F16,
                shape: (*shape).into(),
                bytes: 0..0,
            })
            .collect();
        let mut header = Header { tensors, ..Header::default() };
        header.tensors.sort_by(|one, other| one.name.cmp(&other.name));
        FileKind::of_header(&header)
    }

    #[test]
    fn other_models_are_known_for_what_they_are() {
        const IN: &str = "model.diffusion_model.input_blocks.0.0.weight";
        const TO_K: &str = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
        const LABEL: &str = "model.diffusion_model.label_emb.0.0.weight";
        for (tensors, expected) in [
            (&[(IN, &[320, 4, 3, 3][..]), (TO_K, &[320, 768])][..], "a Stable Diffusion 1 model"),
            (&[(IN, &[320, 4, 3, 3]), (TO_K, &[320, 1024])], "a Stable Diffusion 2 model"),
            (
                &[("model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight", &[1, 1])],
                "a Stable Diffusion 3 model",
            ),
            (&[("double_blocks.0.img_attn.qkv.weight", &[1, 1])], "a Flux model"),
            (&[(IN, &[384, 4, 3, 3]), (LABEL, &[1536, 2560])], "the SDXL refiner"),
            (
                &[(IN, &[320, 8, 3, 3]), (LABEL, &[1280, 2816])],
                "an SDXL model for editing, with 8 input channels",
            ),
            (&[(IN, &[320, 9, 3, 3]), (LABEL, &[1280, 2816])], "an SDXL checkpoint"),
            (&[(IN, &[320, 4, 3, 3]), (LABEL, &[1280, 2816]), ("edm_mean", &[4])], "an SDXL checkpoint"),
            (&[(IN, &[320, 4, 3, 3]), (LABEL, &[1280, 2816])], "an SDXL checkpoint"),
            (&[("lora_unet_input_blocks_4_1_proj_in.lora_down.weight", &[4, 640])], "a LoRA"),
            (&[("decoder.conv_in.weight", &[512, 4, 3, 3])], "a VAE"),
            (&[("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3])], "a ControlNet"),
            (&[("control_model.input_hint_block.0.weight", &[16, 3, 3, 3])], "a ControlNet"),
            (
                &[
                    ("control_add_embedding.linear_1.weight", &[1280, 1536]),
                    ("controlnet_cond_embedding.conv_in.weight", &[16, 3, 3, 3]),
                ],
                "a ControlNet-Union",
            ),
            (&[("clip_g", &[4, 1280]), ("clip_l", &[4, 768])], "a textual inversion"),
            (&[("emb_params", &[4, 768])], "a textual inversion for Stable Diffusion 1 or 2"),
            (&[("weight", &[1])], "a file of an unknown kind"),
        ] {
            assert_eq!(kind(tensors).to_string(), expected);
        }
    }
}
