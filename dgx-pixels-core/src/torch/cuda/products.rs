//! Matrix products, with what follows them in the same pass.

use tch::{TchError, Tensor};

use super::driver::{Boxes, Launch, Swizzle};
use super::hopper::Hopper;
use super::kernels::{Kernels, Result, arguments};
use super::matmul::{Product, Stream};
use super::stream;

impl Kernels {
    /// `input [.., c_in] · weightᵀ [c_in, c_out] + bias`, added to `into [.., c_out]` where that is
    /// given, in its place; `None` where it does not fit. A weight's rows may lie in a wider one.
    pub(in crate::torch) fn linear(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let fits = input.kind() == self.kind && weight.kind() == self.kind;
        if fits { self.product(input, weight, None, bias, into) } else { Ok(None) }
    }

    /// By cuBLASLt; `scales`: of 8-bit floats, those of the weight's rows and of the input's.
    pub(super) fn product(
        &self,
        input: &Tensor,
        weight: &Tensor,
        scales: Option<(&Tensor, &Tensor)>,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(matmul) = &self.matmul else { return Ok(None) };
        let mut size = input.size();
        let last = size.len() - 1;
        let (outer, inner) = weight.size2()?;
        // Rows of 16 bytes.
        let even = if scales.is_some() { 16 } else { 8 };
        let fits = size[last] == inner
            && inner % even == 0
            && outer % even == 0
            && weight.stride()[1] == 1
            && input.is_contiguous()
            && into.is_none_or(|into| into.is_contiguous());
        if !fits {
            return Ok(None);
        }
        let rows = size[..last].iter().product::<i64>();
        size[last] = outer;
        let out = match into {
            Some(into) => into.shallow_clone(),
            None => Tensor::f_empty(&size, (self.kind, input.device()))?,
        };
        let product = Product {
            input: input.data_ptr(),
            input_stride: inner,
            weight: weight.data_ptr(),
            weight_stride: weight.stride()[0],
            bias,
            out: out.data_ptr(),
            rows,
            inner,
            outer,
            adds: into.is_some(),
            scales,
        };
        let handle = stream::handle(self.index)?;
        let clock = |once: &dyn Fn() -> std::result::Result<(), String>| self.clock(once);
        let stream = Stream { handle, records: self.records.get(), clock: Some(&clock) };
        // SAFETY: shapes, strides and kinds were checked above; the tensors lie on this GPU, as its
        // kernels were given to their layer.
        unsafe { matmul.run(&product, &stream) }.map_err(TchError::Torch)?;
        Ok(Some(out))
    }

    /// A linear layer and the [`geglu`](Kernels::geglu) of its output, which is nowhere written:
    /// `input [.., c_in]`, `weight [2 * width, c_in]` → `[.., width]`. `None` where it does not
    /// fit, or where there is too little to do for it.
    pub(in crate::torch) fn linear_geglu(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        const TILE: i64 = 128;
        const STEP: i64 = 64;
        let (Some(hopper), Some(bias)) = (&self.hopper, bias) else { return Ok(None) };
        let mut size = input.size();
        let last = size.len() - 1;
        let (outer, inner) = weight.size2()?;
        let (rows, width) = (size[..last].iter().product::<i64>(), outer / 2);
        let tiles = (rows + TILE - 1) / TILE * (width / TILE);
        let fits = size[last] == inner
            && inner % STEP == 0
            && width % TILE == 0
            && tiles >= self.multiprocessors
            && rows <= i64::from(i32::MAX)
            && input.kind() == self.kind
            && weight.kind() == self.kind
            && input.is_contiguous()
            && weight.is_contiguous();
        if !fits {
            return Ok(None);
        }
        size[last] = width;
        let out = Tensor::f_empty(&size, (self.kind, input.device()))?;
        let map = |tensor: &Tensor, (rows, columns): (i64, i64), box_rows| {
            let boxes = Boxes::dense(self.number(), [columns, rows], [64, box_rows], Swizzle::Bytes128);
            // SAFETY: the tensors are contiguous, of these sizes, and live until the stream is
            // there.
            unsafe { self.driver.tensor_map(tensor.data_ptr(), &boxes) }.map_err(TchError::Torch)
        };
        let mut of_input = map(input, (rows, inner), 128)?;
        let mut of_weight = map(weight, (outer, inner), 128)?;
        let mut of_out = map(&out, (rows, width), 16)?;
        let mut bias_at = bias.data_ptr();
        let (mut rows, mut inner, mut width) = (rows as i32, inner as i32, width as i32);
        self.launch(
            hopper.linear_geglu,
            Launch {
                grid: (tiles.min(self.multiprocessors) as u32, 1),
                threads: 384,
                shared_bytes: Hopper::GEGLU_SHARED_BYTES,
                early: self.early,
            },
            arguments![of_input, of_weight, of_out, bias_at, rows, inner, width],
        )?;
        Ok(Some(out))
    }
}
