//! Each kernel against the plain tensors that it stands for:
//! `cargo test --release --lib torch::cuda -- --ignored` on a GPU.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::super::device::{channels_last, load_cuda};
use super::stream::OnStream;
use super::{Fp8, Fp8Conv, Graph, Kernels, Parts, Pool};
use crate::device::{Device, Dtype, Mode};

const GPU: Device = Device::Cuda(0);

struct Bench {
    kernels: Arc<Kernels>,
    kind: Kind,
    /// What one rounding may change, relative.
    step: f64,
    _stream: OnStream,
}

impl Bench {
    fn new(dtype: Dtype, mode: Mode) -> Bench {
        load_cuda().expect("a GPU");
        tch::manual_seed(7);
        let step = if dtype == Dtype::F16 { 1.0 / 1024.0 } else { 1.0 / 128.0 };
        let kernels = Kernels::load(GPU, dtype, mode).expect("the kernels compile");
        Bench { kernels, kind: dtype.kind(), step, _stream: OnStream::enter(GPU).unwrap() }
    }

    /// One after the other: each is on our stream while it lives.
    fn both() -> impl Iterator<Item = Bench> {
        [Dtype::Bf16, Dtype::F16].into_iter().map(|dtype| Bench::new(dtype, Mode::Fast))
    }

    fn random(&self, size: &[i64], mean: f64) -> Tensor {
        (Tensor::randn(size, (Kind::Float, tch::Device::Cuda(0))) + mean).to_kind(self.kind)
    }

    fn picture(&self, size: &[i64], mean: f64) -> Tensor {
        channels_last(&self.random(size, mean)).unwrap()
    }

    /// That no number is further off than a rounding or two of the largest around it.
    #[track_caller]
    fn assert_close(&self, what: &str, ours: &Tensor, exact: &Tensor) {
        assert_eq!(ours.size(), exact.size(), "{what}");
        let ours = ours.to_kind(Kind::Float);
        let off = (&ours - exact).abs() / (exact.abs() + 1.0);
        let worst = off.max().double_value(&[]);
        assert!(worst <= 2.5 * self.step, "{what}: off by {worst:.2e}, allowed {:.2e}", 2.5 * self.step);
        let norm = (&ours - exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
        assert!(norm <= self.step, "{what}: off by {norm:.2e} in the norm");
    }
}

fn float(tensor: &Tensor) -> Tensor {
    tensor.to_kind(Kind::Float)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn group_norms_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        // As in SDXL's UNet and VAE, in sprite-xl, and odd ones.
        let shapes = [
            (2, 320, 0, 128, 128, 32),
            (2, 640, 320, 128, 128, 32),
            (1, 1280, 1280, 32, 32, 32),
            (16, 1280, 640, 32, 32, 32),
            (3, 128, 0, 512, 512, 32),
            (2, 64, 0, 4, 4, 32),
            (1, 64, 64, 33, 7, 16),
            (1, 64, 0, 1, 1, 32),
        ];
        for (b, a_channels, b_channels, h, w, groups) in shapes {
            // Far from zero, where sums of squares lose digits.
            for mean in [0.0, 30.0] {
                let a = bench.picture(&[b, a_channels, h, w], mean);
                let more = (b_channels > 0).then(|| bench.picture(&[b, b_channels, h, w], mean));
                let channels = a_channels + b_channels;
                let (weight, bias) = (bench.random(&[channels], 1.0), bench.random(&[channels], 0.0));
                let open = bench.random(&[channels], 0.0);
                // A part of a wider row.
                let time = bench.random(&[b, channels + 64], 0.0).narrow(1, 32, channels);
                for (bias_open, time_open) in [(None, None), (Some(&open), None), (Some(&open), Some(&time))]
                {
                    for activate in [false, true] {
                        let parts = Parts { a: &a, b: more.as_ref(), bias: bias_open, time: time_open };
                        let ours = bench
                            .kernels
                            .group_norm(parts, (&weight, &bias), groups, 1e-5, activate)
                            .unwrap()
                            .expect("it fits");
                        let whole = float(&parts.whole().unwrap());
                        let exact =
                            whole.group_norm(groups, Some(float(&weight)), Some(float(&bias)), 1e-5, false);
                        let exact = if activate { exact.silu() } else { exact };
                        let what =
                            format!("{b}x{a_channels}+{b_channels}x{h}x{w}, mean {mean}, act {activate}");
                        bench.assert_close(&what, &ours, &exact);
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn layer_norms_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        for (rows, width) in [(8192, 640), (2048, 1280), (77, 768), (5, 2048), (3, 64), (1, 8)] {
            let (x, more) = (bench.random(&[rows, width], 3.0), bench.random(&[rows, width], 0.0));
            let (weight, bias) = (bench.random(&[width], 1.0), bench.random(&[width], 0.0));
            let norm = |x: &Tensor| {
                float(x).layer_norm([width], Some(float(&weight)), Some(float(&bias)), 1e-5, false)
            };
            let affine = (&weight, &bias);
            let ours = bench.kernels.layer_norm(&x, None, None, affine, 1e-5).unwrap().expect("it fits");
            bench.assert_close(&format!("{rows}x{width}"), &ours, &norm(&x));
            // The first rows lack a vector, the others what is missing of them.
            for early in [0, rows / 3, rows] {
                let sum = x.copy();
                let vector = bench.random(&[width], 0.0);
                let late = more.narrow(0, early, rows - early);
                let ours = bench.kernels.layer_norm(&sum, Some(&late), Some((early, &vector)), affine, 1e-5);
                let exact = Tensor::cat(
                    &[x.narrow(0, 0, early) + &vector, x.narrow(0, early, rows - early) + &late],
                    0,
                );
                assert!(sum == exact, "sums are rounded as libtorch rounds them");
                bench.assert_close(
                    &format!("{rows}x{width}, {early} early"),
                    &ours.unwrap().expect("it fits"),
                    &norm(&exact),
                );
            }
        }
        let wide = bench.random(&[2, 4096], 0.0);
        assert!(bench.kernels.layer_norm(&wide, None, None, (&wide, &wide), 1e-5).unwrap().is_none());
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gates_and_sums_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        for (rows, width) in [(2048, 5120), (8192, 2560), (7, 64)] {
            let x = bench.random(&[1, rows, 2 * width], 0.0);
            let ours = bench.kernels.geglu(&x).unwrap().expect("it fits");
            let parts = x.chunk(2, -1);
            bench.assert_close("geglu", &ours, &(float(&parts[0]) * float(&parts[1]).gelu("none")));
        }
        for size in [[2, 320, 128, 128], [1, 64, 3, 5]] {
            let (x, residual) = (bench.picture(&size, 0.0), bench.picture(&size, 0.0));
            let bias = bench.random(&[size[1]], 0.0);
            for residual in [None, Some(&residual)] {
                let exact = &x + bias.view([1, -1, 1, 1]);
                let exact = residual.map_or_else(|| exact.shallow_clone(), |residual| &exact + residual);
                let ours = bench.kernels.add(&channels_last(&x.copy()).unwrap(), &bias, residual);
                assert!(ours.unwrap().expect("it fits") == exact, "sums are rounded as libtorch rounds them");
            }
            let ours = bench.kernels.upsample(&x).unwrap().expect("it fits");
            assert!(ours == x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn products_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        for (rows, inner, outer) in
            [(2048, 1280, 10240), (8192, 640, 640), (77, 768, 3072), (3, 64, 192), (1, 8, 8)]
        {
            let input = bench.random(&[1, rows, inner], 0.0);
            let scale = 1.0 / (inner as f64).sqrt();
            let wide = bench.random(&[outer, inner + 64], 0.0) * scale;
            let bias = bench.random(&[outer], 0.0);
            let into = bench.random(&[1, rows, outer], 0.0);
            for weight in [wide.narrow(1, 64, inner), wide.narrow(1, 0, inner).contiguous()] {
                let exact = float(&input).linear(&float(&weight), None::<Tensor>);
                for bias in [None, Some(&bias)] {
                    let exact = bias.map_or_else(|| exact.shallow_clone(), |bias| &exact + float(bias));
                    let what = format!("{rows}x{inner}x{outer}, bias {}", bias.is_some());
                    let ours = bench.kernels.linear(&input, &weight, bias, None).unwrap().expect("it fits");
                    bench.assert_close(&what, &ours, &exact);
                    let sum = into.copy();
                    let ours =
                        bench.kernels.linear(&input, &weight, bias, Some(&sum)).unwrap().expect("it fits");
                    assert_eq!(ours.data_ptr(), sum.data_ptr());
                    bench.assert_close(&format!("{what}, added"), &ours, &(&exact + float(&into)));
                }
            }
        }
        let odd = bench.random(&[3, 12], 0.0);
        assert!(bench.kernels.linear(&odd, &odd, None, None).unwrap().is_none());
    }
}

#[test]
#[ignore = "needs a GPU of compute capability 9.0"]
fn gated_products_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        for (rows, inner, width) in
            [(2048, 1280, 5120), (8192, 640, 2560), (17000, 64, 128), (5000, 1088, 640)]
        {
            let input = bench.random(&[1, rows, inner], 0.0);
            let weight = bench.random(&[2 * width, inner], 0.0) * (1.0 / (inner as f64).sqrt());
            let bias = bench.random(&[2 * width], 0.0);
            let ours = bench.kernels.linear_geglu(&input, &weight, Some(&bias)).unwrap().expect("it fits");
            let parts = float(&input).linear(&float(&weight), Some(float(&bias))).chunk(2, -1);
            bench.assert_close(
                &format!("{rows}x{inner}x{width}"),
                &ours,
                &(&parts[0] * parts[1].gelu("none")),
            );
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn attention_to_texts_is_that_of_plain_tensors() {
    for bench in Bench::both() {
        for (b, n, heads, tokens) in [
            (1, 1024, 20, 77),
            (2, 4096, 10, 77),
            (3, 33, 3, 5),
            (1, 1, 1, 1),
            (2, 100, 2, 80),
            (2, 257, 5, 128),
        ] {
            let query = bench.random(&[b, n, heads * 64], 0.0);
            // Parts of wider rows.
            let texts = bench.random(&[b, 8 + 2 * tokens * heads * 64], 0.0);
            let part = |i: i64| {
                let flat = texts.narrow(1, 8 + i * tokens * heads * 64, tokens * heads * 64);
                flat.view([b, tokens, heads, 64]).transpose(1, 2)
            };
            let (key, value) = (part(0), part(1));
            let ours = bench.kernels.cross_attention(&query, &key, &value).unwrap().expect("it fits");
            let split = float(&query).view([b, n, heads, 64]).transpose(1, 2);
            let weights = (split.matmul(&float(&key).transpose(-2, -1)) / 8.0).softmax(-1, Kind::Float);
            let exact = weights.matmul(&float(&value)).transpose(1, 2).reshape([b, n, heads * 64]);
            bench.assert_close(&format!("{b}x{n}, {heads} heads, {tokens} tokens"), &ours, &exact);
        }
    }
}

/// Products of 8-bit floats are off by their rounding, about 1 in 16 for each number, and less for
/// sums.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn products_of_8_bits_are_near_those_of_plain_tensors() {
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let bench = Bench::new(dtype, Mode::Fp8);
        assert!(bench.kernels.is_fp8(), "this GPU has no 8-bit floats");
        for (rows, inner, outer) in [(2048, 1280, 3840), (8192, 640, 640), (77, 64, 128), (300, 336, 304)] {
            let x = bench.random(&[1, rows, inner], 0.5);
            let weight = bench.random(&[outer, inner], 0.0) * (1.0 / (inner as f64).sqrt());
            let (bias, into) = (bench.random(&[outer], 0.0), bench.random(&[1, rows, outer], 0.0));
            let (scale, shift) = (bench.random(&[inner], 1.0), bench.random(&[inner], 0.0));
            let rounded = Fp8::of_weight(&weight).unwrap();
            let product = |x: &Tensor| float(x).linear(&float(&weight), Some(float(&bias)));

            let input = bench.kernels.round_fp8(&x).unwrap().expect("it fits");
            let ours =
                bench.kernels.linear_fp8(&input, &rounded, Some(&bias), None).unwrap().expect("it fits");
            assert_near("product", &ours, &product(&x), 1);
            let sum = into.copy();
            let _ = bench
                .kernels
                .linear_fp8(&input, &rounded, Some(&bias), Some(&sum))
                .unwrap()
                .expect("it fits");
            assert_near("product, added", &sum, &(product(&x) + float(&into)), 1);

            let normed = float(&x).layer_norm([inner], Some(float(&scale)), Some(float(&shift)), 1e-5, false);
            let input = bench.kernels.layer_norm_fp8(&x, None, None, (&scale, &shift), 1e-5);
            let ours =
                bench.kernels.linear_fp8(&input.unwrap().expect("it fits"), &rounded, Some(&bias), None);
            assert_near("norm and product", &ours.unwrap().expect("it fits"), &product(&normed), 1);

            let wide = bench.random(&[1, rows, 2 * inner], 0.0);
            let parts = wide.chunk(2, -1);
            let gated = float(&parts[0]) * float(&parts[1]).gelu("none");
            let input = bench.kernels.geglu_fp8(&wide).unwrap().expect("it fits");
            let ours = bench.kernels.linear_fp8(&input, &rounded, Some(&bias), None);
            assert_near("geglu and product", &ours.unwrap().expect("it fits"), &product(&gated), 1);
        }
    }
}

/// That `ours` is what 8-bit floats leave of `exact` after so many products.
#[track_caller]
fn assert_near(what: &str, ours: &Tensor, exact: &Tensor, products: u8) {
    let off = (float(ours) - exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
    let allowed = 0.05 * f64::from(products).sqrt();
    assert!(off < allowed, "{what}: off by {off:.3} in the norm, allowed {allowed:.3}");
}

#[test]
#[ignore = "needs a GPU of compute capability 9.0"]
fn gated_products_of_8_bits_are_near_those_of_plain_tensors() {
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let bench = Bench::new(dtype, Mode::Fp8);
        for (rows, inner, width) in [(2048, 1280, 5120), (8192, 640, 2560), (77, 128, 384), (1, 1408, 128)] {
            assert!(bench.kernels.gates_fp8(inner, width));
            let x = bench.random(&[1, rows, inner], 0.0);
            let weight = bench.random(&[2 * width, inner], 0.0) * (1.0 / (inner as f64).sqrt());
            let bias = bench.random(&[2 * width], 0.0);
            let out_weight = bench.random(&[inner, width], 0.0) * (1.0 / (width as f64).sqrt());
            let (out_bias, into) = (bench.random(&[inner], 0.0), bench.random(&[1, rows, inner], 0.0));

            let input = bench.kernels.round_fp8(&x).unwrap().expect("it fits");
            let rounded = Fp8::of_weight(&weight).unwrap();
            let gated =
                bench.kernels.linear_geglu_fp8(&input, &rounded, Some(&bias)).unwrap().expect("it fits");
            let rounded = Fp8::of_weight(&out_weight).and_then(Fp8::for_gated).unwrap();
            let parts = float(&x).linear(&float(&weight), Some(float(&bias))).chunk(2, -1);
            let exact = &parts[0] * parts[1].gelu("none");
            for (bias, into) in [(None, None), (Some(&out_bias), None), (Some(&out_bias), Some(&into))] {
                let sum = into.map(Tensor::copy);
                let ours = bench.kernels.linear_gated(&gated, &rounded, bias, sum.as_ref()).unwrap();
                let exact = exact.linear(&float(&out_weight), bias.map(float));
                let exact = into.map_or_else(|| exact.shallow_clone(), |into| &exact + float(into));
                assert_near(&format!("{rows}x{inner}x{width}"), &ours.expect("it fits"), &exact, 2);
            }
        }
        assert!(!bench.kernels.gates_fp8(64, 128) && !bench.kernels.gates_fp8(128, 64));
    }
}

fn and(exact: &Tensor, time: Option<&Tensor>, residual: Option<&Tensor>) -> Tensor {
    let timed = time.map_or_else(|| exact.copy(), |time| exact + float(time).unsqueeze(-1).unsqueeze(-1));
    residual.map_or_else(|| timed.copy(), |residual| &timed + float(residual))
}

#[test]
#[ignore = "needs a GPU of compute capability 9.0"]
fn convolutions_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        // As in SDXL, and pictures that no tile divides.
        for (b, c_in, c_out, h, w) in [
            (2, 320, 320, 128, 128),
            (2, 1920, 640, 64, 64),
            (2, 1280, 1280, 32, 32),
            (1, 96, 160, 36, 28),
            (3, 40, 320, 1, 5),
            (1, 48, 160, 19, 131),
        ] {
            let x = bench.picture(&[b, c_in, h, w], 0.0);
            let weight = bench.picture(&[c_out, c_in, 3, 3], 0.0) * (1.0 / (9.0 * c_in as f64).sqrt());
            let bias = bench.random(&[c_out], 0.0);
            let time = bench.random(&[b, c_out + 64], 0.0).narrow(1, 32, c_out);
            let residual = bench.picture(&[b, c_out, h, w], 0.0);
            let exact = float(&x).conv2d(&float(&weight), Some(float(&bias)), 1, 1, 1, 1);
            for (time, residual) in [(None, None), (Some(&time), None), (None, Some(&residual))] {
                let ours = bench.kernels.conv(&x, &weight, &bias, time, residual).unwrap().expect("it fits");
                let what = format!("{b}x{c_in}x{h}x{w} to {c_out}");
                bench.assert_close(&what, &ours, &and(&exact, time, residual));
            }
        }
        assert!(!bench.kernels.convolves(4, 160) && !bench.kernels.convolves(160, 128));
    }
}

#[test]
#[ignore = "needs a GPU of compute capability 9.0"]
fn convolutions_of_doubled_pictures_are_those_of_plain_tensors() {
    for bench in Bench::both() {
        for (b, c_in, c_out, h, w) in [
            (2, 1280, 1280, 32, 32),
            (1, 512, 512, 64, 64),
            (1, 328, 64, 18, 14),
            (2, 256, 104, 1, 5),
            (1, 272, 176, 9, 131),
        ] {
            let x = bench.picture(&[b, c_in, h, w], 0.0);
            let weight = bench.picture(&[c_out, c_in, 3, 3], 0.0) * (1.0 / (9.0 * c_in as f64).sqrt());
            let bias = bench.random(&[c_out], 0.0);
            let doubled = float(&x).upsample_nearest2d([2 * h, 2 * w], None, None);
            let exact = doubled.conv2d(&float(&weight), Some(float(&bias)), 1, 1, 1, 1);
            let doubling = bench.kernels.doubling(&weight).unwrap().expect("it fits");
            let ours = bench.kernels.conv_doubled(&x, &doubling, &bias).unwrap().expect("it fits");
            bench.assert_close(&format!("{b}x{c_in}x{h}x{w} to {c_out}"), &ours, &exact);
        }
    }
}

#[test]
#[ignore = "needs a GPU of compute capability 9.0"]
fn convolutions_of_8_bits_are_near_those_of_plain_tensors() {
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let bench = Bench::new(dtype, Mode::Fp8);
        // As in SDXL, in sprite-xl, and pictures that no tile divides.
        for (b, c_in, c_out, h, w) in [
            (2, 320, 320, 128, 128),
            (2, 1920, 640, 64, 64),
            (2, 1280, 1280, 32, 32),
            (3, 64, 96, 8, 8),
            (1, 96, 64, 36, 28),
            (2, 32, 32, 1, 5),
            (1, 48, 176, 19, 131),
        ] {
            assert!(bench.kernels.convolves_fp8(c_in, c_out, 16));
            let x = bench.picture(&[b, c_in, h, w], 0.5);
            let (scale, shift) = (bench.random(&[c_in], 1.0), bench.random(&[c_in], 0.0));
            let weight = bench.random(&[c_out, c_in, 3, 3], 0.0) * (1.0 / (9.0 * c_in as f64).sqrt());
            let bias = bench.random(&[c_out], 0.0);
            let time = bench.random(&[b, c_out + 64], 0.0).narrow(1, 32, c_out);
            let residual = bench.picture(&[b, c_out, h, w], 0.0);
            let normed =
                float(&x).group_norm(16, Some(float(&scale)), Some(float(&shift)), 1e-5, false).silu();
            let exact = normed.conv2d(&float(&weight), Some(float(&bias)), 1, 1, 1, 1);

            let factor = 32.0 * 5.0 / Fp8::LARGEST;
            let normed = bench.kernels.group_norm_fp8((&x).into(), (&scale, &shift), 16, 1e-5, true, factor);
            let normed = normed.unwrap().expect("it fits");
            let conv = Fp8Conv::of_weight(&weight, factor).unwrap();
            for (time, residual) in [(None, None), (Some(&time), None), (None, Some(&residual))] {
                let ours = bench.kernels.conv_fp8(&normed, &conv, &bias, time, residual).unwrap();
                let what = format!("{b}x{c_in}x{h}x{w} to {c_out}");
                assert_near(&what, &ours, &and(&exact, time, residual), 1);
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_was_recorded_runs_again_on_what_its_inputs_hold_then() {
    let bench = Bench::new(Dtype::Bf16, Mode::Fast);
    let mut x = bench.picture(&[2, 320, 32, 32], 0.0);
    let (weight, bias) = (bench.random(&[320], 1.0), bench.random(&[320], 0.0));
    let norm = |x: &Tensor| {
        let normed = bench.kernels.group_norm(x.into(), (&weight, &bias), 32, 1e-5, true)?;
        Ok(normed.expect("it fits"))
    };
    let _ = norm(&x).unwrap();
    let pool = Pool::new().unwrap();
    let (graph, out) = Graph::record(pool, || norm(&x)).unwrap();
    for mean in [0.0, 5.0] {
        let next = bench.picture(&[2, 320, 32, 32], mean);
        x.copy_(&next);
        graph.replay().unwrap();
        assert!(out == norm(&next).unwrap());
    }
    let failed =
        Graph::record(pool, || -> Result<(), tch::TchError> { Err(tch::TchError::Shape("no".into())) });
    assert!(failed.unwrap_err().to_string().contains("no"));
    graph.replay().unwrap();
}

/// Prints what each pass of a step of SDXL moves, how fast, and how fast a plain copy is.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn passes_and_their_bandwidth() {
    let bench = Bench::new(Dtype::Bf16, Mode::Fast);
    let kernels = &bench.kernels;
    println!("{:<44} {:>9} {:>9} {:>9}", "pass", "MB", "us", "GB/s");
    let told = |what: String, bytes: usize, work: &dyn Fn()| {
        let once = || {
            work();
            Ok(())
        };
        let milliseconds = kernels.clock(&once).unwrap();
        let megabytes = bytes as f64 / 1e6;
        println!("{what:<44} {megabytes:>9.1} {:>9.1} {:>9.0}", milliseconds * 1e3, megabytes / milliseconds);
    };
    let large = bench.random(&[256 << 20], 0.0);
    let mut copy = large.zeros_like();
    let copy_cell = std::cell::RefCell::new(&mut copy);
    told("copy of 512 MiB".into(), 4 * large.numel(), &|| copy_cell.borrow_mut().copy_(&large));
    for (b, c, side) in [
        (2, 320, 128),
        (2, 960, 128),
        (2, 640, 64),
        (2, 1920, 64),
        (2, 1280, 32),
        (2, 2560, 32),
        (1, 512, 256),
        (1, 256, 512),
        (1, 128, 1024),
    ] {
        let x = bench.picture(&[b, c, side, side], 0.0);
        let (weight, bias) = (bench.random(&[c], 1.0), bench.random(&[c], 0.0));
        for open in [None, Some(&bias)] {
            let parts = Parts { bias: open, ..(&x).into() };
            let what =
                format!("group norm {b}x{c}x{side}x{side}{}", if open.is_some() { ", open" } else { "" });
            // Read for the sums, read for the norm, and written.
            told(what, 6 * x.numel(), &|| {
                drop(kernels.group_norm(parts, (&weight, &bias), 32, 1e-5, true).unwrap())
            });
        }
        told(format!("upsample {b}x{c}x{side}x{side}"), 10 * x.numel(), &|| {
            drop(kernels.upsample(&x).unwrap())
        });
        told(format!("add {b}x{c}x{side}x{side}"), 6 * x.numel(), &|| {
            drop(kernels.add(&x, &bias, Some(&x)).unwrap())
        });
    }
    for (rows, width) in [(8192, 640), (2048, 1280)] {
        let x = bench.random(&[rows, width], 0.0);
        let (weight, bias) = (bench.random(&[width], 1.0), bench.random(&[width], 0.0));
        let affine = (&weight, &bias);
        let norm = |more| drop(kernels.layer_norm(&x, more, None, affine, 1e-5).unwrap());
        told(format!("layer norm {rows}x{width}"), 4 * x.numel(), &|| norm(None));
        let more = x.zeros_like();
        told(format!("layer norm {rows}x{width}, sum"), 8 * x.numel(), &|| norm(Some(&more)));
        let wide = bench.random(&[rows, 8 * width], 0.0);
        told(format!("geglu {rows}x{}", 4 * width), 3 * wide.numel(), &|| {
            drop(kernels.geglu(&wide).unwrap())
        });
    }
}
