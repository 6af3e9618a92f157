//! Products of pixels, with their neighbours or without, and weights, by kernels for Hopper: what
//! these are told of their work, and the convolutions of `convolve.cu`.

use std::ptr;

use tch::{TchError, Tensor};

use super::super::device::channels_last;
use super::driver::{Boxes, Launch, Number, Swizzle, TensorMap};
use super::hopper::{Convolutions, Cut};
use super::kernels::{Kernels, Result, arguments};

pub(super) const THREADS: u32 = 384;

/// What is multiplied: `[pictures, h, w, channels]` without gaps. Rows are pixels of one picture
/// one pixel high.
pub(super) struct Pixels<'a> {
    pub(super) input: &'a Tensor,
    pub(super) number: Number,
    pub(super) pictures: i64,
    pub(super) h: i64,
    pub(super) w: i64,
    pub(super) channels: i64,
    pub(super) taps: Taps,
}

/// Which pixels are read for one, in the order of a weight's columns: so many, from this far left
/// and above.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) across: i64,
    pub(super) down: i64,
    pub(super) left: i64,
    pub(super) top: i64,
}

impl Taps {
    pub(super) const ITSELF: Taps = Taps { across: 1, down: 1, left: 0, top: 0 };
    pub(super) const AROUND: Taps = Taps { across: 3, down: 3, left: -1, top: -1 };
}

/// One pixel of each square of four, of a picture twice as large.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    pub(super) x: i64,
    pub(super) y: i64,
}

/// The argument of kernels that is called `Work` there.
#[repr(C)]
pub(super) struct Work {
    across: i32,
    down: i32,
    pictures: i32,
    tiles_n: i32,
    box_w: i32,
    box_h: i32,
    channels: i32,
    outer: i32,
    rows: i32,
    taps: i32,
    taps_across: i32,
    left: i32,
    top: i32,
}

impl Work {
    pub(super) fn tiles(&self) -> i64 {
        [self.across, self.down, self.pictures, self.tiles_n].into_iter().map(i64::from).product()
    }
}

impl Pixels<'_> {
    pub(super) fn work(&self, outer: i64, cut: &Cut) -> Work {
        let (box_w, box_h) = self.tile(cut.rows);
        Work {
            across: div_ceil(self.w, box_w) as i32,
            down: div_ceil(self.h, box_h) as i32,
            pictures: self.pictures as i32,
            tiles_n: div_ceil(outer, cut.columns) as i32,
            box_w: box_w as i32,
            box_h: box_h as i32,
            channels: self.channels as i32,
            outer: outer as i32,
            rows: (self.pictures * self.h * self.w) as i32,
            taps: (self.taps.across * self.taps.down) as i32,
            taps_across: self.taps.across as i32,
            left: self.taps.left as i32,
            top: self.taps.top as i32,
        }
    }

    /// Width and height of tiles of so many pixels: those that cover a picture with the fewest, and
    /// of these the widest.
    fn tile(&self, rows: i64) -> (i64, i64) {
        if self.h == 1 {
            return (rows, 1);
        }
        let tiles = (2..=7).rev().map(|log| (1 << log, rows >> log)).filter(|(_, h)| *h > 0);
        let count = |(w, h): &(i64, i64)| div_ceil(self.w, *w) * div_ceil(self.h, *h);
        tiles.min_by_key(count).expect("a tile has at least four pixels; this is a bug")
    }
}

pub(super) fn div_ceil(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

impl Kernels {
    /// `pixels` in tiles, a step's numbers at a time.
    pub(super) fn input_map(&self, pixels: &Pixels, work: &Work) -> Result<TensorMap> {
        let Pixels { input, number, pictures, h, w, channels, .. } = *pixels;
        let sides = [number.row(), work.box_w as u32, work.box_h as u32, 1];
        let boxes = Boxes::dense(number, [channels, w, h, pictures], sides, Swizzle::Bytes128);
        // SAFETY: `Pixels` has the tensor's size, and its owner keeps it until the stream is there.
        unsafe { self.driver.tensor_map(input.data_ptr(), &boxes) }.map_err(TchError::Torch)
    }

    /// `weight [c_out, k]` without gaps, so many rows at a time.
    pub(super) fn weight_map(&self, weight: &Tensor, number: Number, rows: i64) -> Result<TensorMap> {
        let (outer, inner) = weight.size2()?;
        let boxes = Boxes::dense(number, [inner, outer], [number.row(), rows as u32], Swizzle::Bytes128);
        // SAFETY: the tensor has this size, and a layer keeps it.
        unsafe { self.driver.tensor_map(weight.data_ptr(), &boxes) }.map_err(TchError::Torch)
    }

    /// `out [pictures, h, w, c_out]` without gaps, or a `corner` of one twice as large, in parts of
    /// a tile.
    pub(super) fn output_map(
        &self,
        pixels: &Pixels,
        work: &Work,
        cut: &Cut,
        out: &Tensor,
        corner: Option<Corner>,
    ) -> Result<TensorMap> {
        let Pixels { pictures, h, w, .. } = *pixels;
        let outer = i64::from(work.outer);
        let (box_w, box_h) = (work.box_w as u32, work.box_h as u32);
        let parts = (cut.rows / cut.stored) as u32;
        let (box_w, box_h) = if box_h > 1 { (box_w, box_h / parts) } else { (box_w / parts, 1) };
        let sizes = [outer, w, h, pictures];
        let boxes = Boxes::dense(self.number(), sizes, [32, box_w, box_h, 1], Swizzle::Bytes64);
        let (boxes, first) = match corner {
            None => (boxes, 0),
            Some(Corner { x, y }) => {
                let strides = [1, 2 * outer, 4 * w * outer, 4 * h * w * outer];
                (Boxes { strides, ..boxes }, outer * (x + 2 * w * y))
            }
        };
        // SAFETY: the tensor has this size, with channels last, and lives until the stream is
        // there.
        unsafe { self.driver.tensor_map(out.data_ptr().byte_add(2 * first as usize), &boxes) }
            .map_err(TchError::Torch)
    }
}

/// A convolution of 3x3 pixels of a picture that is doubled before, as one of 2x2 pixels of the
/// picture itself for each corner: where it would read the same pixel two or four times, the
/// weights are summed. 4 of 9 multiplications are left.
pub(in crate::torch) struct Doubling {
    /// `[c_out, 4 * c_in]` each, in the order of [`CORNERS`].
    weights: [Tensor; 4],
}

const CORNERS: [Corner; 4] =
    [Corner { x: 0, y: 0 }, Corner { x: 1, y: 0 }, Corner { x: 0, y: 1 }, Corner { x: 1, y: 1 }];

impl Doubling {
    /// `weight [c_out, c_in, 3, 3]`.
    fn of_weight(weight: &Tensor) -> Result<Doubling> {
        let (c_out, kind) = (weight.size()[0], weight.kind());
        let taps = weight.f_to_kind(tch::Kind::Float)?.f_permute([0, 2, 3, 1])?;
        // Of three taps in a line, the first or the last is alone, and the others read one pixel.
        let pairs = |taps: &Tensor, dim: i64, at: i64| -> Result<Tensor> {
            let part = |from, count| taps.f_narrow(dim, from, count)?.f_sum_dim_intlist(dim, true, None);
            Tensor::f_cat(&[part(0, 1 + at)?, part(1 + at, 2 - at)?], dim)
        };
        let corner = |Corner { x, y }: Corner| {
            pairs(&pairs(&taps, 1, y)?, 2, x)?.f_to_kind(kind)?.f_reshape([c_out, -1])
        };
        let [a, b, c, d] = CORNERS.map(corner);
        Ok(Doubling { weights: [a?, b?, c?, d?] })
    }
}

impl Kernels {
    /// Whether convolutions of 3x3 pixels, which keep a picture's size, are by a kernel of ours: at
    /// other widths cuDNN's are faster.
    pub(in crate::torch) fn convolves(&self, c_in: i64, c_out: i64) -> bool {
        self.convolutions().is_some() && c_in % 8 == 0 && c_out % Convolutions::CUTS[0].columns == 0
    }

    fn convolutions(&self) -> Option<&Convolutions> {
        self.hopper.as_ref().and_then(|hopper| hopper.convolutions.as_ref())
    }

    /// For [`conv_doubled`](Kernels::conv_doubled); `weight [c_out, c_in, 3, 3]`, `None` where it
    /// is not by a kernel of ours.
    pub(in crate::torch) fn doubling(&self, weight: &Tensor) -> Result<Option<Doubling>> {
        let (c_out, c_in, _, _) = weight.size4()?;
        // Narrower ones take no longer than their launches, which would be four.
        const LEAST: i64 = 256;
        let fits = self.convolutions().is_some() && c_in >= LEAST && c_in % 8 == 0 && c_out % 8 == 0;
        if fits { Doubling::of_weight(weight).map(Some) } else { Ok(None) }
    }

    /// `input [b, c_in, h, w]` and `weight [c_out, c_in, 3, 3]`, convolved with a margin of one
    /// pixel; `bias [c_out]`, `time [b, c_out]` and `residual [b, c_out, h, w]` are added. `None`
    /// where it does not fit.
    pub(in crate::torch) fn conv(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        time: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let (b, c_in, h, w) = input.size4()?;
        let c_out = weight.size4()?.0;
        if !self.convolves(c_in, c_out) || input.kind() != self.kind || weight.kind() != self.kind {
            return Ok(None);
        }
        let weight = weight.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_view([c_out, 9 * c_in])?;
        let input = channels_last(input)?;
        let residual = residual.map(channels_last).transpose()?;
        let out = Tensor::f_empty([b, h, w, c_out], (self.kind, input.device()))?.f_permute([0, 3, 1, 2])?;
        let number = self.number();
        let pixels = Pixels { input: &input, number, pictures: b, h, w, channels: c_in, taps: Taps::AROUND };
        self.convolve(&pixels, &weight, bias, time, residual.as_ref(), (&out, None))?;
        Ok(Some(out))
    }

    /// `input [b, c_in, h, w]`, doubled, convolved with a margin of one pixel →
    /// `[b, c_out, 2h, 2w]`; `None` where it does not fit.
    pub(in crate::torch) fn conv_doubled(
        &self,
        input: &Tensor,
        doubling: &Doubling,
        bias: &Tensor,
    ) -> Result<Option<Tensor>> {
        let (b, c_in, h, w) = input.size4()?;
        let (c_out, inner) = doubling.weights[0].size2()?;
        if inner != 4 * c_in || input.kind() != self.kind {
            return Ok(None);
        }
        let input = channels_last(input)?;
        let out = Tensor::f_empty([b, 2 * h, 2 * w, c_out], (self.kind, input.device()))?;
        let out = out.f_permute([0, 3, 1, 2])?;
        for (corner, weight) in CORNERS.into_iter().zip(&doubling.weights) {
            let taps = Taps { across: 2, down: 2, left: corner.x - 1, top: corner.y - 1 };
            let number = self.number();
            let pixels = Pixels { input: &input, number, pictures: b, h, w, channels: c_in, taps };
            self.convolve(&pixels, weight, bias, None, None, (&out, Some(corner)))?;
        }
        Ok(Some(out))
    }

    fn convolve(
        &self,
        pixels: &Pixels,
        weight: &Tensor,
        bias: &Tensor,
        time: Option<&Tensor>,
        residual: Option<&Tensor>,
        (out, corner): (&Tensor, Option<Corner>),
    ) -> Result<()> {
        let Some(convolutions) = self.convolutions() else {
            return Err(TchError::Torch("the kernels that convolve are not there".into()));
        };
        let outer = weight.size()[0];
        let which = (0..Convolutions::CUTS.len())
            .min_by_key(|i| self.cost(pixels, outer, &Convolutions::CUTS[*i]))
            .expect("there are two");
        let cut = &Convolutions::CUTS[which];
        let mut work = pixels.work(outer, cut);
        let mut of_input = self.input_map(pixels, &work)?;
        let mut of_weight = self.weight_map(weight, pixels.number, cut.columns)?;
        let mut of_out = self.output_map(pixels, &work, cut, out, corner)?;
        let mut of_residual = self.output_map(pixels, &work, cut, residual.unwrap_or(out), corner)?;
        let mut bias_at = bias.data_ptr();
        let mut time_at = time.map_or(ptr::null_mut(), Tensor::data_ptr);
        let mut time_stride = time.map_or(0, |time| time.stride()[0]);
        let mut has_residual = i32::from(residual.is_some());
        let grid = (work.tiles().min(self.multiprocessors) as u32, 1);
        self.launch(
            convolutions.0[which],
            Launch {
                grid,
                threads: THREADS,
                shared_bytes: Convolutions::SHARED_BYTES[which],
                early: self.early,
            },
            arguments![
                of_input,
                of_weight,
                of_residual,
                of_out,
                bias_at,
                time_at,
                time_stride,
                has_residual,
                work
            ],
        )
    }

    /// Cycles that a multiprocessor takes for a step of all its tiles, about: they multiply, or
    /// wait for what they read.
    fn cost(&self, pixels: &Pixels, outer: i64, cut: &Cut) -> i64 {
        let tiles = pixels.work(outer, cut).tiles();
        let step = (cut.rows * cut.columns / 32).max((cut.rows + cut.columns) * 31 / 10);
        div_ceil(tiles, self.multiprocessors) * step
    }
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;

    #[test]
    fn tiles_cover_a_picture_with_the_fewest() {
        let input = Tensor::zeros([0], (Kind::Float, tch::Device::Cpu));
        let tile = |w, h, rows| {
            let pixels = Pixels {
                input: &input,
                number: Number::Bf16,
                pictures: 1,
                h,
                w,
                channels: 64,
                taps: Taps::AROUND,
            };
            pixels.tile(rows)
        };
        // SDXL's levels, one of another shape, less than a tile, and rows.
        assert_eq!(tile(128, 128, 128), (128, 1));
        assert_eq!(tile(32, 32, 128), (32, 4));
        assert_eq!(tile(28, 36, 128), (32, 4));
        assert_eq!(tile(5, 3, 128), (32, 4));
        assert_eq!(tile(2048, 1, 64), (64, 1));
    }

    #[test]
    fn corners_of_a_doubled_picture_are_convolutions_of_the_picture() {
        tch::manual_seed(3);
        let float = (Kind::Float, tch::Device::Cpu);
        let (x, weight) = (Tensor::randn([2, 5, 4, 7], float), Tensor::randn([6, 5, 3, 3], float));
        let doubled = x.upsample_nearest2d([8, 14], None, None).conv2d(&weight, None::<Tensor>, 1, 1, 1, 1);
        let doubling = Doubling::of_weight(&weight).unwrap();
        for (Corner { x: column, y: row }, weight) in CORNERS.into_iter().zip(&doubling.weights) {
            let weight = weight.view([6, 2, 2, 5]).permute([0, 3, 1, 2]);
            let around = x.constant_pad_nd([1 - column, column, 1 - row, row]);
            let ours = around.conv2d(&weight, None::<Tensor>, 1, 0, 1, 1);
            let exact = doubled.slice(2, row, None, 2).slice(3, column, None, 2);
            assert!((ours - exact).abs().max().double_value(&[]) < 1e-4);
        }
    }
}
