//! The work beyond libtorch on an NVIDIA GPU: kernels of our own, matrix products with their
//! epilogues, streams and graphs.
//!
//! All of it is a way to compute what the plain code beside it says, faster. Where a part of it is
//! missing (NVRTC, cuBLASLt), or a shape does not fit, the plain code runs.

mod convolution;
mod driver;
mod fp8;
mod hopper;
mod kernels;
mod load;
mod matmul;
mod nvrtc;
mod pixels;
mod products;
mod rows;
mod stream;
#[cfg(test)]
mod tests;
mod texts;
#[cfg(test)]
mod texts_tests;

pub(super) use convolution::Doubling;
pub(super) use fp8::{Fp8, Fp8Conv, Fp8Picture, Gated};
pub(super) use kernels::Kernels;
pub(super) use nvrtc::is_installed as nvrtc_is_installed;
pub(super) use pixels::Parts;
pub(super) use stream::{Event, Graph, OnStream, Pool};
