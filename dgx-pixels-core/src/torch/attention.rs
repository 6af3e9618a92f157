//! Attention and the transformer blocks around it.

use std::sync::Arc;

use tch::{TchError, Tensor};

use super::cuda::Kernels;
use super::failed_to_build;
use super::layers::{Conv2d, GroupNorm, Lack, LayerNorm, Linear, Result, geglu};
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
        self.to_out.forward(&self.attended(sample)?)
    }

    /// What `to_out` reads.
    fn attended(&self, sample: &Tensor) -> Result<Tensor> {
        let (b, n, width) = sample.size3()?;
        let qkv = self.to_qkv.forward(sample)?.f_view([b, n, 3, self.heads, width / self.heads])?;
        let [query, key, value]: [Tensor; 3] = qkv
            .f_permute([2, 0, 3, 1, 4])?
            .f_unbind(0)?
            .try_into()
            .map_err(|_| TchError::Shape("unbinding 3 parts gives 3".into()))?;
        attend(&query, &key, &value, false)
    }
}

/// Keys and values of texts for all cross-attentions, computed once for a prompt: `[texts, width]`, in the order of the forward pass.
///
/// Rows of the sample that come before the texts' have a text of zeros. Keys and values have no bias, so that such a text's are zeros, and so
/// is what is attended to: these rows need no attention.
pub(super) struct Texts<'a> {
    rows: &'a Tensor,
    /// Where the next cross-attention's part begins.
    next: i64,
    tokens: i64,
}

impl Texts<'_> {
    /// `rows` as [`UNet::keys_values`](super::unet::UNet::keys_values) makes them from texts of so many tokens.
    pub(super) fn new(rows: &Tensor, tokens: i64) -> Texts<'_> {
        Texts { rows, next: 0, tokens }
    }

    /// Key and value of the next cross-attention, each `[texts, heads, tokens, width / heads]`.
    fn take(&mut self, width: i64, heads: i64) -> Result<[Tensor; 2]> {
        let texts = self.rows.size()[0];
        let mut part = || {
            let flat = self.rows.f_narrow(1, self.next, self.tokens * width)?;
            self.next += self.tokens * width;
            flat.f_view([texts, self.tokens, heads, width / heads])?.f_transpose(1, 2)
        };
        Ok([part()?, part()?])
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

    /// What this attention reads of `text [b, tokens, text_width]`: key and value, each `[b, tokens * width]`.
    fn keys_values(&self, text: &Tensor) -> Result<[Tensor; 2]> {
        let flat = |layer: &Linear| layer.forward(text)?.f_flatten(1, -1);
        Ok([flat(&self.to_k)?, flat(&self.to_v)?])
    }

    /// What `to_out` reads, of the rows that have a text.
    fn attended(&self, sample: &Tensor, texts: &mut Texts) -> Result<Tensor> {
        let (b, n, width) = sample.size3()?;
        let [key, value] = texts.take(width, self.heads)?;
        let with_text = key.size()[0];
        let query = self.to_q.forward(&sample.f_narrow(0, b - with_text, with_text)?)?;
        let query = query.f_view([with_text, n, self.heads, width / self.heads])?.f_transpose(1, 2)?;
        attend(&query, &key, &value, false)
    }
}

/// The sum that blocks add to. What was added last may wait, to be summed in the pass of the next norm.
struct Residual {
    sum: Tensor,
    lacks: Lack,
    kernels: Option<Arc<Kernels>>,
}

impl Residual {
    fn normed(&mut self, norm: &LayerNorm) -> Result<Tensor> {
        match std::mem::take(&mut self.lacks) {
            Lack { early: None, late: None } => norm.forward(&self.sum),
            lacks => norm.forward_sum(&self.sum, &lacks),
        }
    }

    /// Adds what `layer` makes of `input`, which may lack the first rows: for them it is zeros.
    fn add(&mut self, layer: &Linear, input: &Tensor) -> Result<()> {
        self.settle()?;
        let (rows, with_input) = (self.sum.size()[0], input.size()[0]);
        let without = rows - with_input;
        if without > 0 {
            let bias = layer.bias().map(Tensor::shallow_clone);
            self.lacks.early = bias.map(|bias| (without, bias));
        }
        if self.kernels.as_ref().is_some_and(|kernels| !kernels.is_fast()) {
            self.lacks.late = Some(layer.forward(input)?);
            return Ok(());
        }
        let mut place = self.sum.f_narrow(0, without, with_input)?;
        let sum = layer.forward_into(input, place.shallow_clone())?;
        match without {
            0 => self.sum = sum,
            _ if sum.data_ptr() == place.data_ptr() => {}
            _ => place.f_copy_(&sum)?,
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        std::mem::take(&mut self.lacks).settle(&self.sum)
    }

    fn whole(mut self) -> Result<Tensor> {
        self.settle()?;
        Ok(self.sum)
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

    fn forward(&self, hidden: &mut Residual, texts: &mut Texts) -> Result<()> {
        let normed = hidden.normed(&self.norm1)?;
        hidden.add(&self.attn1.to_out, &self.attn1.attended(&normed)?)?;
        let normed = hidden.normed(&self.norm2)?;
        hidden.add(&self.attn2.to_out, &self.attn2.attended(&normed, texts)?)?;
        let normed = hidden.normed(&self.norm3)?;
        let gated = geglu(hidden.kernels.as_deref(), &self.ff_in.forward(&normed)?)?;
        hidden.add(&self.ff_out, &gated)
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
    kernels: Option<Arc<Kernels>>,
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
            kernels: node.kernels(),
        })
    }

    /// What every block reads of `text`, in the order of the blocks.
    pub(super) fn keys_values(&self, text: &Tensor, into: &mut Vec<Tensor>) -> Result<()> {
        for block in &self.transformer_blocks {
            into.extend(block.attn2.keys_values(text)?);
        }
        Ok(())
    }

    /// Uses `sample` up.
    pub(super) fn forward(&self, sample: Tensor, texts: &mut Texts) -> Result<Tensor> {
        let (b, c, h, w) = sample.size4()?;
        let to_sequence = |picture: &Tensor| picture.f_permute([0, 2, 3, 1])?.f_reshape([b, h * w, c]);
        let to_picture = |sequence: Tensor| sequence.f_reshape([b, h, w, c])?.f_permute([0, 3, 1, 2]);

        // 1. to a sequence of pixels
        let normed = self.norm.forward(&sample)?;
        let sum = match &self.proj_in {
            Projection::Linear(proj) => proj.forward(&to_sequence(&normed)?)?,
            Projection::Conv(proj) => to_sequence(&proj.forward(&normed)?)?,
        };
        // 2. blocks
        let mut hidden = Residual { sum, lacks: Lack::default(), kernels: self.kernels.clone() };
        for block in &self.transformer_blocks {
            block.forward(&mut hidden, texts)?;
        }
        let hidden = hidden.whole()?;
        // 3. back to a picture
        match &self.proj_out {
            Projection::Linear(proj) => to_picture(proj.forward_into(&hidden, to_sequence(&sample)?)?),
            Projection::Conv(proj) => proj.forward(&to_picture(hidden)?)?.f_add(&sample),
        }
    }
}
