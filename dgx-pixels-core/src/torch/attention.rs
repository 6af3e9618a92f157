//! Attention and the transformer blocks around it.

use tch::{TchError, Tensor};

use super::failed_to_build;
use super::layers::{Conv2d, GroupNorm, LayerNorm, Linear, Result};
use super::weights::Node;
use crate::error::Error;

/// Softmax attention, the one place a fused kernel replaces: `query [b, heads, n, d]`, `key` and `value`
/// `[b, heads, m, d]` → `[b, n, heads * d]`. Scaled by 1/√d.
pub(super) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, is_causal: bool) -> Result<Tensor> {
    let (b, heads, n, d) = query.size4()?;
    Tensor::f_scaled_dot_product_attention(query, key, value, None::<Tensor>, 0.0, is_causal, None, false)?
        .f_transpose(1, 2)?
        .f_reshape([b, n, heads * d])
}

/// Self-attention over `sample [b, n, width]`. `attn1` in the checkpoint.
///
/// `to_q`, `to_k` and `to_v` are one product here. Source: diffusers 0.42.1, `models/attention_processor.py`,
/// `AttnProcessor2_0`.
pub(super) struct SelfAttention {
    to_qkv: Linear,
    to_out: Linear,
    heads: i64,
}

impl SelfAttention {
    fn load(node: Node, width: i64, heads: i64) -> std::result::Result<Self, Error> {
        let parts =
            ["to_q", "to_k", "to_v"].map(|name| Linear::load_without_bias(&node / name, width, width));
        SelfAttention::from_parts(parts, &node, width, heads)
    }

    /// The same with biases, as the VAE has it.
    pub(super) fn load_with_bias(node: Node, width: i64, heads: i64) -> std::result::Result<Self, Error> {
        let parts = ["to_q", "to_k", "to_v"].map(|name| Linear::load(&node / name, width, width));
        SelfAttention::from_parts(parts, &node, width, heads)
    }

    fn from_parts(
        parts: [std::result::Result<Linear, Error>; 3],
        node: &Node,
        width: i64,
        heads: i64,
    ) -> std::result::Result<Self, Error> {
        let parts = parts.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
        let to_qkv = Linear::fuse(&parts).map_err(failed_to_build)?;
        Ok(SelfAttention { to_qkv, to_out: Linear::load(node / "to_out" / 0, width, width)?, heads })
    }

    pub(super) fn forward(&self, sample: &Tensor) -> Result<Tensor> {
        let (b, n, width) = sample.size3()?;
        let qkv = self.to_qkv.forward(sample)?.f_view([b, n, 3, self.heads, width / self.heads])?;
        let [query, key, value]: [Tensor; 3] = qkv
            .f_permute([2, 0, 3, 1, 4])?
            .f_unbind(0)?
            .try_into()
            .map_err(|_| TchError::Shape("unbinding 3 parts gives 3".into()))?;
        self.to_out.forward(&attend(&query, &key, &value, false)?)
    }
}

/// Keys and values of a text for one cross-attention, each `[b, heads, tokens, d]`: computed once for a prompt.
pub(super) struct KeysValues {
    key: Tensor,
    value: Tensor,
}

impl KeysValues {
    /// The same tensors once more.
    pub(super) fn shallow_clone(&self) -> KeysValues {
        KeysValues { key: self.key.shallow_clone(), value: self.value.shallow_clone() }
    }

    /// Rows of several texts under each other.
    pub(super) fn cat(rows: &[&KeysValues]) -> Result<KeysValues> {
        let join = |part: fn(&KeysValues) -> &Tensor| {
            Tensor::f_cat(&rows.iter().map(|row| part(row)).collect::<Vec<_>>(), 0)
        };
        Ok(KeysValues { key: join(|row| &row.key)?, value: join(|row| &row.value)? })
    }
}

/// Attention from `sample [b, n, width]` to a text. `attn2` in the checkpoint.
pub(super) struct CrossAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
}

impl CrossAttention {
    fn load(node: Node, width: i64, text_width: i64, heads: i64) -> std::result::Result<Self, Error> {
        Ok(CrossAttention {
            to_q: Linear::load_without_bias(&node / "to_q", width, width)?,
            to_k: Linear::load_without_bias(&node / "to_k", text_width, width)?,
            to_v: Linear::load_without_bias(&node / "to_v", text_width, width)?,
            to_out: Linear::load(&node / "to_out" / 0, width, width)?,
            heads,
        })
    }

    /// What this attention reads of `text [b, tokens, text_width]`.
    fn keys_values(&self, text: &Tensor) -> Result<KeysValues> {
        let split = |projected: Tensor| self.split_heads(&projected)?.f_contiguous();
        Ok(KeysValues { key: split(self.to_k.forward(text)?)?, value: split(self.to_v.forward(text)?)? })
    }

    fn forward(&self, sample: &Tensor, text: &KeysValues) -> Result<Tensor> {
        let query = self.split_heads(&self.to_q.forward(sample)?)?;
        self.to_out.forward(&attend(&query, &text.key, &text.value, false)?)
    }

    fn split_heads(&self, projected: &Tensor) -> Result<Tensor> {
        let (b, n, width) = projected.size3()?;
        projected.f_view([b, n, self.heads, width / self.heads])?.f_transpose(1, 2)
    }
}

/// Self-attention, cross-attention and a gated feed-forward layer, each with a norm before and a skip path.
/// `transformer_blocks.N` in the checkpoint.
///
/// Source: diffusers 0.42.1, `models/attention.py`, `BasicTransformerBlock`.
pub(super) struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff_in: Linear,
    ff_out: Linear,
}

impl BasicTransformerBlock {
    const EPS: f64 = 1e-5;

    fn load(node: Node, width: i64, text_width: i64, heads: i64) -> std::result::Result<Self, Error> {
        Ok(BasicTransformerBlock {
            norm1: LayerNorm::load(&node / "norm1", width, Self::EPS)?,
            attn1: SelfAttention::load(&node / "attn1", width, heads)?,
            norm2: LayerNorm::load(&node / "norm2", width, Self::EPS)?,
            attn2: CrossAttention::load(&node / "attn2", width, text_width, heads)?,
            norm3: LayerNorm::load(&node / "norm3", width, Self::EPS)?,
            ff_in: Linear::load(&node / "ff" / "net" / 0 / "proj", width, 8 * width)?,
            ff_out: Linear::load(&node / "ff" / "net" / 2, 4 * width, width)?,
        })
    }

    fn forward(&self, sample: &Tensor, text: &KeysValues) -> Result<Tensor> {
        let sample = self.attn1.forward(&self.norm1.forward(sample)?)?.f_add_(sample)?;
        let sample = self.attn2.forward(&self.norm2.forward(&sample)?, text)?.f_add_(&sample)?;
        // GEGLU: half of the projection gates the other.
        let projected = self.ff_in.forward(&self.norm3.forward(&sample)?)?;
        let [hidden, gate]: [Tensor; 2] = projected
            .f_chunk(2, -1)?
            .try_into()
            .map_err(|_| TchError::Shape("two chunks of an even width".into()))?;
        self.ff_out.forward(&gate.f_gelu("none")?.f_mul_(&hidden)?)?.f_add_(&sample)
    }
}

/// Transformer blocks over the pixels of a picture. `attentions.N` in the checkpoint.
///
/// `sample [b, c, h, w]` → the same. Source: diffusers 0.42.1, `models/transformers/transformer_2d.py`,
/// `Transformer2DModel`.
pub(super) struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Projection,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Projection,
}

/// `use_linear_projection`: where the pixels become a sequence, before or after the projection.
enum Projection {
    Linear(Linear),
    Conv(Conv2d),
}

/// What the blocks of one level share.
#[derive(Clone, Copy)]
pub(super) struct TransformerShape {
    pub(super) heads: i64,
    pub(super) text_width: i64,
    pub(super) groups: i64,
    pub(super) linear: bool,
}

impl Transformer2DModel {
    pub(super) fn load(
        node: Node,
        channels: i64,
        depth: usize,
        shape: TransformerShape,
    ) -> std::result::Result<Self, Error> {
        let TransformerShape { heads, text_width, groups, linear } = shape;
        let projection = |name: &str| -> std::result::Result<Projection, Error> {
            Ok(if linear {
                Projection::Linear(Linear::load(&node / name, channels, channels)?)
            } else {
                Projection::Conv(Conv2d::load(&node / name, channels, channels, 1)?)
            })
        };
        Ok(Transformer2DModel {
            norm: GroupNorm::load(&node / "norm", channels, groups, 1e-6)?,
            proj_in: projection("proj_in")?,
            transformer_blocks: (0..depth)
                .map(|i| {
                    BasicTransformerBlock::load(&node / "transformer_blocks" / i, channels, text_width, heads)
                })
                .collect::<std::result::Result<_, _>>()?,
            proj_out: projection("proj_out")?,
        })
    }

    /// What every block reads of `text`, in the order of the blocks.
    pub(super) fn keys_values(&self, text: &Tensor, into: &mut Vec<KeysValues>) -> Result<()> {
        for block in &self.transformer_blocks {
            into.push(block.attn2.keys_values(text)?);
        }
        Ok(())
    }

    /// Takes as many of `text` as it has blocks.
    pub(super) fn forward(&self, sample: &Tensor, text: &mut std::slice::Iter<KeysValues>) -> Result<Tensor> {
        let (b, c, h, w) = sample.size4()?;
        let to_sequence = |picture: Tensor| picture.f_permute([0, 2, 3, 1])?.f_reshape([b, h * w, c]);
        let to_picture = |sequence: Tensor| sequence.f_reshape([b, h, w, c])?.f_permute([0, 3, 1, 2]);

        // 1. to a sequence of pixels
        let normed = self.norm.forward(sample)?;
        let mut hidden = match &self.proj_in {
            Projection::Linear(proj) => proj.forward(&to_sequence(normed)?)?,
            Projection::Conv(proj) => to_sequence(proj.forward(&normed)?)?,
        };
        // 2. blocks
        for (block, text) in self.transformer_blocks.iter().zip(text) {
            hidden = block.forward(&hidden, text)?;
        }
        // 3. back to a picture
        let hidden = match &self.proj_out {
            Projection::Linear(proj) => to_picture(proj.forward(&hidden)?)?,
            Projection::Conv(proj) => proj.forward(&to_picture(hidden)?)?,
        };
        hidden.f_add(sample)
    }
}
