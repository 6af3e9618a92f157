//! The layers that all models share, each loaded by its key's name. On a GPU the kernels of
//! [`cuda`](super::cuda) take their work where they can.

use std::sync::Arc;

use tch::{TchError, Tensor};

use super::Result;
use super::cuda::{Doubling, Fp8, Fp8Conv, Kernels, Parts};
use super::edges;
use super::flops;
use super::norms::GroupNorm;
use super::rows::{Rows, mixed};
use super::weights::Node;
use crate::error::Error;
use crate::model::config::Activation;

/// `input [.., c_in]` → `[.., c_out]`.
pub(super) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    kernels: Option<Arc<Kernels>>,
}

/// `[c_out, c_in]`.
enum Weight {
    Whole(Tensor),
    Fp8(Fp8),
    Gated(Fp8),
}

impl Linear {
    pub(super) fn load(node: Node, c_in: i64, c_out: i64) -> std::result::Result<Self, Error> {
        Ok(Linear {
            weight: Weight::Whole(node.tensor("weight", &[c_out, c_in])?),
            bias: Some(node.tensor("bias", &[c_out])?),
            kernels: node.kernels(),
        })
    }

    pub(super) fn load_without_bias(node: Node, c_in: i64, c_out: i64) -> std::result::Result<Self, Error> {
        let weight = Weight::Whole(node.tensor("weight", &[c_out, c_in])?);
        Ok(Linear { weight, bias: None, kernels: node.kernels() })
    }

    /// Several layers of one input as one: their outputs side by side. None is rounded yet.
    pub(super) fn fuse(layers: &[Linear]) -> Result<Self> {
        let weights = layers.iter().filter_map(|layer| match &layer.weight {
            Weight::Whole(weight) => Some(weight),
            Weight::Fp8(_) | Weight::Gated(_) => None,
        });
        let weight = Weight::Whole(Tensor::f_cat(&weights.collect::<Vec<_>>(), 0)?);
        let bias = match layers.iter().map(|layer| layer.bias.as_ref()).collect::<Option<Vec<_>>>() {
            Some(biases) => Some(Tensor::f_cat(&biases, 0)?),
            None => None,
        };
        Ok(Linear { weight, bias, kernels: layers[0].kernels.clone() })
    }

    /// With a weight of 8-bit floats, where the kernels are to have it so.
    pub(super) fn rounded(mut self) -> std::result::Result<Self, Error> {
        if let Weight::Whole(weight) = &self.weight
            && self.kernels.as_ref().is_some_and(|kernels| kernels.is_fp8())
        {
            self.weight = Weight::Fp8(Fp8::of_weight(weight).map_err(super::failed_to_build)?);
        }
        Ok(self)
    }

    /// As [`rounded`](Linear::rounded); and where the kernels gate and multiply in one, for what
    /// they make of it.
    pub(super) fn rounded_gated(mut self) -> std::result::Result<Self, Error> {
        if let Weight::Whole(weight) = &self.weight
            && let Some(kernels) = &self.kernels
            && kernels.gates_fp8(weight.size()[0], weight.size()[1])
        {
            let weight = Fp8::of_weight(weight).and_then(Fp8::for_gated).map_err(super::failed_to_build)?;
            self.weight = Weight::Gated(weight);
            return Ok(self);
        }
        self.rounded()
    }

    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Of a layer that is not rounded.
    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.read(&Rows::Whole(input.shallow_clone()))
    }

    /// The output and `into [.., c_out]`, which is used up; of a layer that is not rounded.
    pub(super) fn forward_into(&self, input: &Tensor, into: Tensor) -> Result<Tensor> {
        self.read_into(&Rows::Whole(input.shallow_clone()), into)
    }

    pub(super) fn read(&self, rows: &Rows) -> Result<Tensor> {
        match self.product(rows, None)? {
            Some(output) => Ok(output),
            None => self.plain(rows),
        }
    }

    /// The output and `into [.., c_out]`, which is used up.
    pub(super) fn read_into(&self, rows: &Rows, into: Tensor) -> Result<Tensor> {
        if self.kernels.as_ref().is_some_and(|kernels| kernels.is_fast())
            && let Some(sum) = self.product(rows, Some(&into))?
        {
            return Ok(sum);
        }
        self.read(rows)?.f_add_(&into)
    }

    /// The output, of which half gates the other ([`geglu`]); `fp8`: for a layer that is rounded.
    pub(super) fn read_gated(&self, rows: &Rows, fp8: bool) -> Result<Rows> {
        if let Some(kernels) = &self.kernels {
            let bias = self.bias.as_ref();
            let gated = match (&self.weight, rows) {
                (Weight::Whole(weight), Rows::Whole(input)) => {
                    kernels.linear_geglu(input, weight, bias)?.map(Rows::Whole)
                }
                (Weight::Fp8(weight), Rows::Fp8(input)) => {
                    kernels.linear_geglu_fp8(input, weight, bias)?.map(Rows::Gated)
                }
                _ => return Err(mixed()),
            };
            if let Some(gated) = gated {
                self.count(rows);
                return Ok(gated);
            }
        }
        geglu(self.kernels.as_deref(), &self.read(rows)?, fp8)
    }

    /// By the kernels; `None` where it does not fit.
    fn product(&self, rows: &Rows, into: Option<&Tensor>) -> Result<Option<Tensor>> {
        let Some(kernels) = &self.kernels else { return Ok(None) };
        let bias = self.bias.as_ref();
        let product = match (&self.weight, rows) {
            (Weight::Whole(weight), Rows::Whole(input)) => kernels.linear(input, weight, bias, into)?,
            (Weight::Fp8(weight), Rows::Fp8(input)) => kernels.linear_fp8(input, weight, bias, into)?,
            (Weight::Gated(weight), Rows::Gated(input)) => kernels.linear_gated(input, weight, bias, into)?,
            _ => return Err(mixed()),
        };
        if product.is_some() {
            self.count(rows);
        }
        Ok(product)
    }

    fn plain(&self, rows: &Rows) -> Result<Tensor> {
        let (Weight::Whole(weight), Rows::Whole(input)) = (&self.weight, rows) else { return Err(mixed()) };
        self.count(rows);
        input.f_linear(weight, self.bias.as_ref())
    }

    fn count(&self, rows: &Rows) {
        let c_out = match &self.weight {
            Weight::Whole(weight) => weight.size()[0],
            Weight::Fp8(weight) | Weight::Gated(weight) => weight.size()[0],
        };
        flops::add(rows.size().iter().product::<i64>() * c_out);
    }

    /// `input` as this layer reads it.
    pub(super) fn rows(&self, input: Tensor) -> Result<Rows> {
        match (&self.weight, &self.kernels) {
            (Weight::Fp8(_), Some(kernels)) => kernels.round_fp8(&input)?.map(Rows::Fp8).ok_or_else(mixed),
            _ => Ok(Rows::Whole(input)),
        }
    }
}

/// The widest transformer block whose layers may be rounded: a warp keeps a row of it.
pub(super) const MAX_ROUNDED: i64 = 2048;

/// `input [b, c_in, h, w]` → `[b, c_out, h', w']`.
pub(super) struct Conv2d {
    weight: ConvWeight,
    bias: Tensor,
    stride: i64,
    padding: i64,
    kernels: Option<Arc<Kernels>>,
}

enum ConvWeight {
    /// `[c_out, c_in, kernel, kernel]`.
    Whole(Tensor),
    Fp8(Fp8Conv),
}

impl ConvWeight {
    fn whole(&self) -> Result<&Tensor> {
        match self {
            ConvWeight::Whole(weight) => Ok(weight),
            ConvWeight::Fp8(_) => Err(mixed()),
        }
    }
}

impl Conv2d {
    /// A square kernel that keeps the picture's size.
    pub(super) fn load(node: Node, c_in: i64, c_out: i64, kernel: i64) -> std::result::Result<Self, Error> {
        Conv2d::load_strided(node, c_in, c_out, kernel, 1, (kernel - 1) / 2)
    }

    pub(super) fn load_strided(
        node: Node,
        c_in: i64,
        c_out: i64,
        kernel: i64,
        stride: i64,
        padding: i64,
    ) -> std::result::Result<Self, Error> {
        let weight = ConvWeight::Whole(node.tensor("weight", &[c_out, c_in, kernel, kernel])?);
        let bias = node.tensor("bias", &[c_out])?;
        Ok(Conv2d { weight, bias, stride, padding, kernels: node.kernels() })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        if let Some(kernels) = &self.kernels {
            let output = self.convolved(input, None)?;
            return match kernels.add(&output, &self.bias, None)? {
                Some(sum) => Ok(sum),
                None => Parts { bias: Some(&self.bias), ..(&output).into() }.whole(),
            };
        }
        self.convolved(input, Some(&self.bias))
    }

    /// As [`forward`](Conv2d::forward); where the bias is returned it is still to be added, by the
    /// pass that reads the output.
    pub(super) fn forward_open(&self, input: &Tensor) -> Result<(Tensor, Option<&Tensor>)> {
        match &self.kernels {
            Some(_) => Ok((self.convolved(input, None)?, Some(&self.bias))),
            None => Ok((self.forward(input)?, None)),
        }
    }

    fn convolved(&self, input: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.weight.whole()?;
        let (input, padding) = edges::continued(input, self.padding)?;
        let output = input.f_conv2d(weight, bias, [self.stride; 2], padding, [1, 1], 1)?;
        let (_, c_in, h, w) = weight.size4()?;
        flops::add(output.numel() as i64 * c_in * h * w);
        Ok(output)
    }

    /// With a weight of 8-bit floats, for what `norm` makes of its input; of 3x3 pixels, where
    /// kernels [convolve so](Kernels::convolves_fp8).
    pub(super) fn rounded(mut self, norm: &GroupNorm) -> std::result::Result<Self, Error> {
        let round = || Fp8Conv::of_weight(self.weight.whole()?, norm.fp8_scale()?);
        self.weight = ConvWeight::Fp8(round().map_err(super::failed_to_build)?);
        Ok(self)
    }

    /// Whether the kernels add what is to be added to the output. They know no edges that meet.
    pub(super) fn adds(&self) -> bool {
        match &self.weight {
            _ if !edges::are_closed() => false,
            ConvWeight::Fp8(_) => true,
            ConvWeight::Whole(weight) => {
                let size = weight.size();
                let square = size[2..] == [3, 3] && self.stride == 1 && self.padding == 1;
                square && self.kernels.as_ref().is_some_and(|kernels| kernels.convolves(size[1], size[0]))
            }
        }
    }

    /// What `norm` and `act` make of `input`, convolved by a layer that [`adds`](Conv2d::adds):
    /// `time [b, c_out]` and `residual [b, c_out, h, w]`.
    pub(super) fn forward_normed(
        &self,
        (norm, act): (&GroupNorm, Activation),
        input: Parts,
        time: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let kernels = self.kernels.as_ref().ok_or_else(mixed)?;
        match &self.weight {
            ConvWeight::Fp8(weight) => {
                let picture = norm.forward_silu_fp8(input, weight.input_scale)?;
                flops::add(picture.numel() * 9 * weight.c_out());
                kernels.conv_fp8(&picture, weight, &self.bias, time, residual)
            }
            ConvWeight::Whole(weight) => {
                let normed = norm.forward_act(input, act)?;
                flops::add(normed.numel() as i64 * 9 * weight.size()[0]);
                kernels.conv(&normed, weight, &self.bias, time, residual)?.ok_or_else(mixed)
            }
        }
    }

    /// For [`forward_doubled`](Conv2d::forward_doubled), where the kernels have it.
    pub(super) fn doubling(&self) -> std::result::Result<Option<Doubling>, Error> {
        let Some(kernels) = &self.kernels else { return Ok(None) };
        self.weight.whole().and_then(|weight| kernels.doubling(weight)).map_err(super::failed_to_build)
    }

    /// `input`, doubled, convolved; `None` where it does not fit.
    pub(super) fn forward_doubled(&self, input: &Tensor, doubling: &Doubling) -> Result<Option<Tensor>> {
        let Some(kernels) = &self.kernels else { return Ok(None) };
        let output = kernels.conv_doubled(input, doubling, &self.bias)?;
        if let Some(output) = &output {
            flops::add(output.numel() as i64 * 4 * input.size()[1]);
        }
        Ok(output)
    }
}

/// A convolution of single pixels, on a skip path. `conv_shortcut` in the checkpoint.
pub(super) struct Shortcut {
    conv: Conv2d,
    /// The convolution's bias, and that of the path beside it.
    biases: Tensor,
}

impl Shortcut {
    /// `beside`: the convolution whose output it is added to.
    pub(super) fn load(
        node: Node,
        c_in: i64,
        c_out: i64,
        beside: &Conv2d,
    ) -> std::result::Result<Self, Error> {
        let conv = Conv2d::load(node, c_in, c_out, 1)?;
        let biases = conv.bias.f_add(&beside.bias).map_err(super::failed_to_build)?;
        Ok(Shortcut { conv, biases })
    }

    /// The output of the convolution beside, whose bias may still be open, and this one's of a
    /// picture in one part or two.
    pub(super) fn forward_into(
        &self,
        (hidden, bias): (Tensor, Option<&Tensor>),
        sample: &Tensor,
        skip: Option<&Tensor>,
    ) -> Result<Tensor> {
        let biases = if bias.is_some() { &self.biases } else { &self.conv.bias };
        if let Some(kernels) = self.conv.kernels.as_ref().filter(|kernels| kernels.is_fast())
            && let Some(sum) = self.products_into(kernels, &hidden, biases, sample, skip)?
        {
            return Ok(sum);
        }
        let whole = Parts { b: skip, ..sample.into() }.whole()?;
        add_open(self.conv.kernels.as_deref(), (hidden, bias), &self.conv.forward(&whole)?)
    }

    /// Pixel by pixel it is a product, of each part on its own.
    fn products_into(
        &self,
        kernels: &Kernels,
        hidden: &Tensor,
        biases: &Tensor,
        sample: &Tensor,
        skip: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let weight = self.conv.weight.whole()?;
        let (c_out, c_in, _, _) = weight.size4()?;
        let weight = weight.f_view([c_out, c_in])?;
        flops::add(hidden.numel() as i64 * c_in);
        let pixels = |picture: &Tensor| picture.f_permute([0, 2, 3, 1]);
        let into = pixels(hidden)?;
        let c_sample = sample.size4()?.1;
        let of_sample = weight.f_narrow(1, 0, c_sample)?;
        if kernels.linear(&pixels(sample)?, &of_sample, Some(biases), Some(&into))?.is_none() {
            return Ok(None);
        }
        if let Some(skip) = skip {
            let of_skip = weight.f_narrow(1, c_sample, c_in - c_sample)?;
            if kernels.linear(&pixels(skip)?, &of_skip, None, Some(&into))?.is_none() {
                return Err(TchError::Shape("the parts of a skip path have rows of one kind".into()));
            }
        }
        Ok(Some(hidden.shallow_clone()))
    }
}

/// A picture, the bias that may still be open, and another picture: their sum.
pub(super) fn add_open(
    kernels: Option<&Kernels>,
    (hidden, bias): (Tensor, Option<&Tensor>),
    residual: &Tensor,
) -> Result<Tensor> {
    match (kernels, bias) {
        (Some(kernels), Some(bias)) => match kernels.add(&hidden, bias, Some(residual))? {
            Some(sum) => Ok(sum),
            None => Parts { bias: Some(bias), ..(&hidden).into() }.whole()?.f_add(residual),
        },
        (None, Some(bias)) => Parts { bias: Some(bias), ..(&hidden).into() }.whole()?.f_add(residual),
        (_, None) => hidden.f_add(residual),
    }
}

/// GEGLU: half of the last dimension gates the other, `[.., 2 * width]` → `[.., width]`; `fp8`: for
/// a layer that is rounded.
fn geglu(kernels: Option<&Kernels>, projected: &Tensor, fp8: bool) -> Result<Rows> {
    if let Some(kernels) = kernels {
        let gated = match fp8 {
            true => kernels.geglu_fp8(projected)?.map(Rows::Fp8),
            false => kernels.geglu(projected)?.map(Rows::Whole),
        };
        if let Some(gated) = gated {
            return Ok(gated);
        }
    }
    let [hidden, gate]: [Tensor; 2] = projected
        .f_chunk(2, -1)?
        .try_into()
        .map_err(|_| TchError::Shape("two chunks of an even width".into()))?;
    Ok(Rows::Whole(gate.f_gelu("none")?.f_mul_(&hidden)?))
}

impl Activation {
    pub(super) fn apply(self, input: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Silu => input.f_silu(),
            Activation::Mish => input.f_mish(),
            Activation::Relu => input.f_relu(),
            Activation::Gelu => input.f_gelu("none"),
            Activation::QuickGelu => input.f_mul(&input.f_mul_scalar(1.702)?.f_sigmoid()?),
        }
    }

    /// In the place of a tensor that nobody else holds, where the activation can.
    pub(super) fn apply_(self, mut input: Tensor) -> Result<Tensor> {
        match self {
            Activation::Silu => input.f_silu_(),
            Activation::Relu => input.f_relu_(),
            _ => self.apply(&input),
        }
    }
}
