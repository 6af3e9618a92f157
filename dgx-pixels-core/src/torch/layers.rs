//! The layers that all models share, each loaded by its key's name. A fused kernel replaces one of these.

use tch::{TchError, Tensor};

use super::weights::Node;
use crate::error::Error;
use crate::model::config::Activation;

pub(super) type Result<T> = std::result::Result<T, TchError>;

/// `input [.., c_in]` → `[.., c_out]`.
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn load(node: Node, c_in: i64, c_out: i64) -> std::result::Result<Self, Error> {
        Ok(Linear {
            weight: node.tensor("weight", &[c_out, c_in])?,
            bias: Some(node.tensor("bias", &[c_out])?),
        })
    }

    pub(super) fn load_without_bias(node: Node, c_in: i64, c_out: i64) -> std::result::Result<Self, Error> {
        Ok(Linear { weight: node.tensor("weight", &[c_out, c_in])?, bias: None })
    }

    /// Several layers of one input as one: their outputs side by side.
    pub(super) fn fuse(layers: &[Linear]) -> Result<Self> {
        let weight = Tensor::f_cat(&layers.iter().map(|layer| &layer.weight).collect::<Vec<_>>(), 0)?;
        let bias = match layers.iter().map(|layer| layer.bias.as_ref()).collect::<Option<Vec<_>>>() {
            Some(biases) => Some(Tensor::f_cat(&biases, 0)?),
            None => None,
        };
        Ok(Linear { weight, bias })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.f_linear(&self.weight, self.bias.as_ref())
    }
}

/// `input [b, c_in, h, w]` → `[b, c_out, h', w']`.
pub(super) struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
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
        let weight = node.tensor("weight", &[c_out, c_in, kernel, kernel])?;
        Ok(Conv2d { weight, bias: node.tensor("bias", &[c_out])?, stride, padding })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        input.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)
    }
}

/// Normalises groups of channels: `[b, c, ..]` → the same.
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub(super) fn load(node: Node, channels: i64, groups: i64, eps: f64) -> std::result::Result<Self, Error> {
        let (weight, bias) = (node.tensor("weight", &[channels])?, node.tensor("bias", &[channels])?);
        Ok(GroupNorm { weight, bias, groups, eps })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.f_group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// The norm and what always follows it in convolution blocks.
    pub(super) fn forward_act(&self, input: &Tensor, act: Activation) -> Result<Tensor> {
        act.apply_(self.forward(input)?)
    }
}

/// Normalises the last dimension.
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn load(node: Node, width: i64, eps: f64) -> std::result::Result<Self, Error> {
        let (weight, bias) = (node.tensor("weight", &[width])?, node.tensor("bias", &[width])?);
        Ok(LayerNorm { weight, bias, width, eps })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.f_layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.eps, true)
    }
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
