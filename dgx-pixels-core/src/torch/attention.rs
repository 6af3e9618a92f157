//! Attention and the transformer blocks around it.

use std::sync::Arc;

use tch::{TchError, Tensor};

use super::Result;
use super::cuda::Kernels;
use super::failed_to_build;
use super::flops;
use super::layers::{Conv2d, Linear, MAX_ROUNDED};
use super::norms::{GroupNorm, LayerNorm};
use super::rows::{Lack, Rows};
use super::weights::Node;
use crate::error::Error;

/// Softmax attention, the one place a fused kernel replaces: `query [b, heads, n, d]`, `key` and
/// `value` `[b, heads, m, d]` → `[b, n, heads * d]`. Scaled by 1/√d.
pub(super) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, is_causal: bool) -> Result<Tensor> {
    let (b, heads, n, d) = query.size4()?;
    flops::add(2 * b * heads * n * d * key.size()[2]);
    Tensor::f_scaled_dot_product_attention(query, key, value, None::<Tensor>, 0.0, is_causal, None, false)?
        .f_transpose(1, 2)?
        .f_reshape([b, n, heads * d])
}

/// Self-attention over `sample [b, n, width]`. `attn1` in the checkpoint.
///
/// `to_q`, `to_k` and `to_v` are one product here. Source: diffusers 0.42.1,
/// `models/attention_processor.py`, `AttnProcessor2_0`.
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
        self.to_out.read(&self.attended(&Rows::Whole(sample.shallow_clone()))?)
    }

    /// With weights of 8-bit floats, where they are to be so.
    fn rounded(self) -> std::result::Result<Self, Error> {
        Ok(SelfAttention { to_qkv: self.to_qkv.rounded()?, to_out: self.to_out.rounded()?, ..self })
    }

    /// What `to_out` reads.
    fn attended(&self, sample: &Rows) -> Result<Rows> {
        let qkv = self.to_qkv.read(sample)?;
        let (b, n, width) = qkv.size3()?;
        let qkv = qkv.f_view([b, n, 3, self.heads, width / 3 / self.heads])?;
        let [query, key, value]: [Tensor; 3] = qkv
            .f_permute([2, 0, 3, 1, 4])?
            .f_unbind(0)?
            .try_into()
            .map_err(|_| TchError::Shape("unbinding 3 parts gives 3".into()))?;
        self.to_out.rows(attend(&query, &key, &value, false)?)
    }
}

/// Keys and values of texts for all cross-attentions, computed once for a prompt: `[texts, width]`,
/// in the order of the forward pass.
///
/// Rows of the sample that come before the texts' have a text of zeros. Keys and values have no
/// bias, so that such a text's are zeros, and so is what is attended to: these rows need no
/// attention.
pub(super) struct Texts<'a> {
    rows: &'a Tensor,
    /// Where the next cross-attention's part begins.
    next: i64,
    tokens: i64,
}

impl Texts<'_> {
    /// `rows` as [`UNet::keys_values`](super::unet::UNet::keys_values) makes them from texts of so
    /// many tokens.
    pub(super) fn new(rows: &Tensor, tokens: i64) -> Texts<'_> {
        Texts { rows, next: 0, tokens }
    }

    /// Passes over all but the last `width` numbers of a token.
    pub(super) fn skip_to_last(&mut self, width: i64) {
        self.next = self.rows.size()[1] - self.tokens * width;
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
    kernels: Option<Arc<Kernels>>,
}

impl CrossAttention {
    fn load(node: Node, width: i64, text_width: i64, heads: i64) -> std::result::Result<Self, Error> {
        Ok(CrossAttention {
            to_q: Linear::load_without_bias(&node / "to_q", width, width)?,
            to_k: Linear::load_without_bias(&node / "to_k", text_width, width)?,
            to_v: Linear::load_without_bias(&node / "to_v", text_width, width)?,
            to_out: Linear::load(&node / "to_out" / 0, width, width)?,
            heads,
            kernels: node.kernels(),
        })
    }

    /// What this attention reads of `text [b, tokens, text_width]`: key and value, each
    /// `[b, tokens * width]`.
    fn keys_values(&self, text: &Tensor) -> Result<[Tensor; 2]> {
        let flat = |layer: &Linear| layer.forward(text)?.f_flatten(1, -1);
        Ok([flat(&self.to_k)?, flat(&self.to_v)?])
    }

    /// With weights of 8-bit floats, where they are to be so; what is computed once for a prompt
    /// stays.
    fn rounded(self) -> std::result::Result<Self, Error> {
        Ok(CrossAttention { to_q: self.to_q.rounded()?, to_out: self.to_out.rounded()?, ..self })
    }

    /// What `to_out` reads, of the rows that have a text.
    fn attended(&self, sample: &Rows, width: i64, texts: &mut Texts) -> Result<Rows> {
        let [key, value] = texts.take(width, self.heads)?;
        let with_text = key.size()[0];
        let query = self.to_q.read(&sample.last(with_text)?)?;
        let n = query.size3()?.1;
        if let Some(kernels) = &self.kernels
            && let Some(attended) = kernels.cross_attention(&query, &key, &value)?
        {
            flops::add(2 * with_text * n * width * key.size()[2]);
            return self.to_out.rows(attended);
        }
        let query = query.f_view([with_text, n, self.heads, width / self.heads])?.f_transpose(1, 2)?;
        self.to_out.rows(attend(&query, &key, &value, false)?)
    }
}

/// The sum that blocks add to. What was added last may wait, to be summed in the pass of the next
/// norm.
struct Residual {
    sum: Tensor,
    lacks: Lack,
    kernels: Option<Arc<Kernels>>,
    /// Whether layers that read it are of 8-bit floats.
    fp8: bool,
}

impl Residual {
    fn normed(&mut self, norm: &LayerNorm) -> Result<Rows> {
        let lacks = std::mem::take(&mut self.lacks);
        norm.forward_sum(&self.sum, &lacks, self.fp8)
    }

    /// Adds what `layer` makes of `input`, which may lack the first rows: for them it is zeros.
    fn add(&mut self, layer: &Linear, input: &Rows) -> Result<()> {
        self.settle()?;
        let (rows, with_input) = (self.sum.size()[0], input.size()[0]);
        let without = rows - with_input;
        if without > 0 {
            let bias = layer.bias().map(Tensor::shallow_clone);
            self.lacks.early = bias.map(|bias| (without, bias));
        }
        if self.kernels.as_ref().is_some_and(|kernels| !kernels.is_fast()) {
            self.lacks.late = Some(layer.read(input)?);
            return Ok(());
        }
        let mut place = self.sum.f_narrow(0, without, with_input)?;
        let sum = layer.read_into(input, place.shallow_clone())?;
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

/// Self-attention, cross-attention and a gated feed-forward layer, each with a norm before and a
/// skip path. `transformer_blocks.N` in the checkpoint.
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
        let block = BasicTransformerBlock {
            norm1: LayerNorm::load(&node / "norm1", width, Self::EPS)?,
            attn1: SelfAttention::load(&node / "attn1", width, heads)?,
            norm2: LayerNorm::load(&node / "norm2", width, Self::EPS)?,
            attn2: CrossAttention::load(&node / "attn2", width, text_width, heads)?,
            norm3: LayerNorm::load(&node / "norm3", width, Self::EPS)?,
            ff_in: Linear::load(&node / "ff" / "net" / 0 / "proj", width, 8 * width)?,
            ff_out: Linear::load(&node / "ff" / "net" / 2, 4 * width, width)?,
        };
        if !rounds(node.kernels().as_deref(), width) {
            return Ok(block);
        }
        Ok(BasicTransformerBlock {
            attn1: block.attn1.rounded()?,
            attn2: block.attn2.rounded()?,
            ff_in: block.ff_in.rounded()?,
            ff_out: block.ff_out.rounded_gated()?,
            ..block
        })
    }

    fn forward(&self, hidden: &mut Residual, texts: &mut Texts) -> Result<()> {
        let normed = hidden.normed(&self.norm1)?;
        hidden.add(&self.attn1.to_out, &self.attn1.attended(&normed)?)?;
        let normed = hidden.normed(&self.norm2)?;
        let width = hidden.sum.size3()?.2;
        hidden.add(&self.attn2.to_out, &self.attn2.attended(&normed, width, texts)?)?;
        let normed = hidden.normed(&self.norm3)?;
        hidden.add(&self.ff_out, &self.ff_in.read_gated(&normed, hidden.fp8)?)
    }
}

/// Whether blocks of this width have layers of 8-bit floats.
fn rounds(kernels: Option<&Kernels>, width: i64) -> bool {
    kernels.is_some_and(Kernels::is_fp8) && width % 16 == 0 && width <= MAX_ROUNDED
}

/// Transformer blocks over the pixels of a picture. `attentions.N` in the checkpoint.
///
/// `sample [b, c, h, w]` → the same. Source: diffusers 0.42.1,
/// `models/transformers/transformer_2d.py`, `Transformer2DModel`.
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

    /// Numbers of a token that its blocks read.
    pub(super) fn text_width(&self) -> i64 {
        self.transformer_blocks.iter().map(|block| 2 * block.norm2.width()).sum()
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
        let fp8 = rounds(self.kernels.as_deref(), c);
        let mut hidden = Residual { sum, lacks: Lack::default(), kernels: self.kernels.clone(), fp8 };
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
