//! Matrix products by cuBLASLt, with what follows them in the same pass: a bias, and a sum with
//! what the output holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::{Library, Symbol};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::files::write_whole;
use crate::folders;

/// It comes with libtorch, which has loaded it.
const CUBLASLT: &str = "libcublasLt.so.13";

/// What NVIDIA advises for Hopper; more is asked for by few algorithms.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Algorithms that are timed for a shape.
const CANDIDATES: usize = 24;

// Values of cublasLt.h, cublas_api.h and library_types.h.
const COMPUTE_32F: c_int = 68;
const R_32F: c_int = 0;
const R_16F: c_int = 2;
const R_16BF: c_int = 14;
static OP_T: c_int = 1;
const DESC_TRANSA: c_int = 3;
const DESC_EPILOGUE: c_int = 7;
const DESC_BIAS_POINTER: c_int = 8;
const EPILOGUE_DEFAULT: c_int = 1;
const EPILOGUE_BIAS: c_int = 4;
const R_8F_E4M3: c_int = 28;
const DESC_A_SCALE_POINTER: c_int = 17;
const DESC_B_SCALE_POINTER: c_int = 18;
const DESC_FAST_ACCUM: c_int = 25;
const DESC_A_SCALE_MODE: c_int = 31;
const DESC_B_SCALE_MODE: c_int = 32;
static SCALE_OUTER_VEC_32F: c_int = 3;
static YES: i8 = 1;
const PREF_MAX_WORKSPACE_BYTES: c_int = 1;

type Handle = *mut c_void;

/// `cublasLtMatmulAlgo_t`, which the same version of cuBLASLt takes again on the same GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
struct Algorithm([u64; 8]);

/// `cublasLtMatmulHeuristicResult_t`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Candidate {
    algorithm: Algorithm,
    workspace_bytes: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// Opaque descriptors, as large as their `_t` types in cublasLt.h.
#[repr(C, align(16))]
struct Layout([u64; 8]);
#[repr(C, align(16))]
struct Operation([u64; 32]);
#[repr(C, align(16))]
struct Preference([u64; 8]);

/// What decides which algorithm is the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Shape {
    rows: i64,
    inner: i64,
    outer: i64,
    weight_stride: i64,
    input_stride: i64,
    has_bias: bool,
    adds: bool,
    has_scales: bool,
}

/// `out = input · weightᵀ + bias`, or that and what `out` held.
pub(super) struct Product<'a> {
    /// `[rows, inner]`, rows `input_stride` numbers apart.
    pub(super) input: *const c_void,
    pub(super) input_stride: i64,
    /// `[outer, inner]`, rows `weight_stride` numbers apart.
    pub(super) weight: *const c_void,
    pub(super) weight_stride: i64,
    pub(super) bias: Option<&'a Tensor>,
    /// `[rows, outer]`.
    pub(super) out: *mut c_void,
    pub(super) rows: i64,
    pub(super) inner: i64,
    pub(super) outer: i64,
    pub(super) adds: bool,
    /// Of e4m3: a factor for each row of the weight, and for each of the input.
    pub(super) scales: Option<(&'a Tensor, &'a Tensor)>,
}

/// cuBLASLt on one GPU.
pub(super) struct MatMul {
    library: Library,
    handle: Handle,
    kind: c_int,
    workspace: Tensor,
    /// Whether the fastest algorithm is looked for, or cuBLASLt's own guess is taken.
    tunes: bool,
    known: RefCell<BTreeMap<Shape, Algorithm>>,
    /// Where what was found is kept for the next start, which then gives the same bits.
    kept: Option<PathBuf>,
}

impl MatMul {
    /// On the current device, which `gpu` describes with its driver. `kind` is that of all tensors.
    pub(super) fn new(kind: Kind, device: tch::Device, gpu: &str, tunes: bool) -> Result<MatMul, String> {
        // SAFETY: it is loaded already; opening it again counts a reference.
        let library = unsafe { Library::new(CUBLASLT) }
            .map_err(|_| format!("cuBLASLt is not installed (`{CUBLASLT}` is not found)"))?;
        let workspace = Tensor::f_empty([WORKSPACE_BYTES as i64], (Kind::Uint8, device))
            .map_err(|error| error.to_string())?;
        let kind = if kind == Kind::Half { R_16F } else { R_16BF };
        let mut matmul = MatMul {
            library,
            handle: ptr::null_mut(),
            kind,
            workspace,
            tunes,
            known: RefCell::default(),
            kept: None,
        };
        let mut handle = ptr::null_mut();
        // SAFETY: signature as in cublasLt.h; the place outlives the call.
        unsafe {
            let create = matmul.call::<unsafe extern "C" fn(*mut Handle) -> c_int>("cublasLtCreate")?;
            answered("cublasLtCreate", create(&mut handle))?;
        }
        matmul.handle = handle;
        if tunes {
            // SAFETY: signature as in cublasLt.h.
            let version = unsafe {
                matmul.call::<unsafe extern "C" fn() -> usize>("cublasLtGetVersion").map(|get| get())?
            };
            let key = blake3::hash(format!("{gpu}, cuBLASLt {version}, {kind}").as_bytes()).to_hex();
            let name = format!("products-{}.json", &key[..32]);
            matmul.kept = folders::cache().map(|cache| cache.join("kernels").join(name));
            matmul.known = RefCell::new(matmul.kept.as_deref().map(read).unwrap_or_default());
        }
        Ok(matmul)
    }

    unsafe fn call<T>(&self, name: &str) -> Result<Symbol<'_, T>, String> {
        // SAFETY: the caller names a function of this type.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| format!("cuBLASLt is too old: {error}"))
    }

    /// Gives the product to `stream`.
    ///
    /// # Safety
    /// The pointers of `product` are to tensors of the shapes it says, of this kind and on this
    /// device.
    pub(super) unsafe fn run(&self, product: &Product, stream: &Stream) -> Result<(), String> {
        // SAFETY: as promised.
        unsafe {
            let prepared = Prepared::new(self, product)?;
            let shape = product.shape();
            let known = self.known.borrow().get(&shape).copied();
            if let Some(algorithm) = known
                && self.matmul(product, &prepared, &algorithm, product.out, stream.handle).is_ok()
            {
                return Ok(());
            }
            let algorithm = self.choose(product, &prepared, stream)?;
            self.known.borrow_mut().insert(shape, algorithm);
            if self.tunes && !stream.records {
                self.keep();
            }
            self.matmul(product, &prepared, &algorithm, product.out, stream.handle)
        }
    }

    /// That it cannot be kept is told of the kernels, which lie in the same folder.
    fn keep(&self) {
        let Some(path) = &self.kept else { return };
        let mut known = self.known.borrow_mut();
        // Another program may have found some meanwhile.
        for (shape, algorithm) in read(path) {
            known.entry(shape).or_insert(algorithm);
        }
        let pairs: Vec<_> = known.iter().collect();
        let text = serde_json::to_vec(&pairs).expect("plain data turns into JSON; this is a bug");
        let _ = write_whole(path, &text, true);
    }

    /// The fastest of the candidates, or the first where nothing is to be timed.
    unsafe fn choose(
        &self,
        product: &Product,
        prepared: &Prepared,
        stream: &Stream,
    ) -> Result<Algorithm, String> {
        // SAFETY: as promised.
        unsafe {
            let candidates = self.candidates(prepared)?;
            let first = candidates.first().ok_or("cuBLASLt has no algorithm for it")?.algorithm;
            if !self.tunes || stream.records {
                return Ok(first);
            }
            let Some(clock) = stream.clock else { return Ok(first) };
            // What is there already must stay as it is.
            let bytes = product.rows * product.outer;
            let scratch = Tensor::f_empty([bytes], (self.tch_kind(), self.workspace.device()))
                .map_err(|error| error.to_string())?;
            let mut best = (f64::INFINITY, first);
            for candidate in &candidates {
                let once = || {
                    self.matmul(product, prepared, &candidate.algorithm, scratch.data_ptr(), stream.handle)
                };
                if let Ok(time) = clock(&once)
                    && time < best.0
                {
                    best = (time, candidate.algorithm);
                }
            }
            Ok(best.1)
        }
    }

    fn tch_kind(&self) -> Kind {
        if self.kind == R_16F { Kind::Half } else { Kind::BFloat16 }
    }

    unsafe fn candidates(&self, prepared: &Prepared) -> Result<Vec<Candidate>, String> {
        let mut preference = Preference([0; 8]);
        let empty = Candidate {
            algorithm: Algorithm([0; 8]),
            workspace_bytes: 0,
            state: 0,
            waves: 0.0,
            reserved: [0; 4],
        };
        let mut candidates = vec![empty; CANDIDATES];
        let mut count = 0;
        // SAFETY: signatures as in cublasLt.h; descriptors are as large as there, and were
        // initialised.
        unsafe {
            let init = self.call::<unsafe extern "C" fn(*mut Preference, usize) -> c_int>(
                "cublasLtMatmulPreferenceInit_internal",
            )?;
            answered("cublasLtMatmulPreferenceInit", init(&mut preference, size_of::<Preference>()))?;
            let set = self
                .call::<unsafe extern "C" fn(*mut Preference, c_int, *const c_void, usize) -> c_int>(
                    "cublasLtMatmulPreferenceSetAttribute",
                )?;
            let bytes = WORKSPACE_BYTES;
            let code = set(
                &mut preference,
                PREF_MAX_WORKSPACE_BYTES,
                (&raw const bytes).cast(),
                size_of_val(&bytes),
            );
            answered("cublasLtMatmulPreferenceSetAttribute", code)?;
            let get = self.call::<unsafe extern "C" fn(
                Handle,
                *const Operation,
                *const Layout,
                *const Layout,
                *const Layout,
                *const Layout,
                *const Preference,
                c_int,
                *mut Candidate,
                *mut c_int,
            ) -> c_int>("cublasLtMatmulAlgoGetHeuristic")?;
            let Prepared { operation, weight, input, out } = prepared;
            let code = get(
                self.handle,
                operation,
                weight,
                input,
                out,
                out,
                &preference,
                CANDIDATES as c_int,
                candidates.as_mut_ptr(),
                &mut count,
            );
            answered("cublasLtMatmulAlgoGetHeuristic", code)?;
        }
        candidates.truncate(count as usize);
        candidates.retain(|candidate| candidate.state == 0);
        Ok(candidates)
    }

    unsafe fn matmul(
        &self,
        product: &Product,
        prepared: &Prepared,
        algorithm: &Algorithm,
        out: *mut c_void,
        stream: *mut c_void,
    ) -> Result<(), String> {
        let alpha = 1f32;
        let beta = if product.adds { 1f32 } else { 0f32 };
        let Prepared { operation, weight, input, out: out_layout } = prepared;
        // SAFETY: signature as in cublasLt.h; the caller answers for the tensors.
        unsafe {
            let matmul = self.call::<unsafe extern "C" fn(
                Handle,
                *const Operation,
                *const f32,
                *const c_void,
                *const Layout,
                *const c_void,
                *const Layout,
                *const f32,
                *const c_void,
                *const Layout,
                *mut c_void,
                *const Layout,
                *const Algorithm,
                *mut c_void,
                usize,
                *mut c_void,
            ) -> c_int>("cublasLtMatmul")?;
            let code = matmul(
                self.handle,
                operation,
                &alpha,
                product.weight,
                weight,
                product.input,
                input,
                &beta,
                out,
                out_layout,
                out,
                out_layout,
                algorithm,
                self.workspace.data_ptr(),
                WORKSPACE_BYTES,
                stream,
            );
            answered("cublasLtMatmul", code)
        }
    }
}

impl Drop for MatMul {
    fn drop(&mut self) {
        if self.handle.is_null() {
            return;
        }
        // SAFETY: signature as in cublasLt.h; made by `new`, destroyed once.
        unsafe {
            if let Ok(destroy) = self.call::<unsafe extern "C" fn(Handle) -> c_int>("cublasLtDestroy") {
                destroy(self.handle);
            }
        }
    }
}

/// What was kept, if it can be read.
fn read(path: &Path) -> BTreeMap<Shape, Algorithm> {
    let text = fs::read(path).unwrap_or_default();
    let pairs: Vec<(Shape, Algorithm)> = serde_json::from_slice(&text).unwrap_or_default();
    pairs.into_iter().collect()
}

/// Where products go.
pub(super) struct Stream<'a> {
    pub(super) handle: *mut c_void,
    /// Whether a graph is being recorded: then nothing may be waited for.
    pub(super) records: bool,
    /// Milliseconds that a closure's work takes on the stream.
    pub(super) clock: Option<&'a Clock<'a>>,
}

pub(super) type Clock<'a> = dyn Fn(&dyn Fn() -> Result<(), String>) -> Result<f64, String> + 'a;

impl Product<'_> {
    fn shape(&self) -> Shape {
        Shape {
            rows: self.rows,
            inner: self.inner,
            outer: self.outer,
            weight_stride: self.weight_stride,
            input_stride: self.input_stride,
            has_bias: self.bias.is_some(),
            adds: self.adds,
            has_scales: self.scales.is_some(),
        }
    }
}

/// A product in cuBLASLt's words. Its matrices are column by column: `outᵀ = weight · inputᵀ`.
struct Prepared {
    operation: Operation,
    weight: Layout,
    input: Layout,
    out: Layout,
}

impl Prepared {
    unsafe fn new(matmul: &MatMul, product: &Product) -> Result<Prepared, String> {
        let Product { rows, inner, outer, .. } = *product;
        // SAFETY: signatures as in cublasLt.h; descriptors are as large as there.
        unsafe {
            let layout = |kind: c_int, rows: i64, columns: i64, stride: i64| -> Result<Layout, String> {
                let init = matmul
                    .call::<unsafe extern "C" fn(*mut Layout, usize, c_int, u64, u64, i64) -> c_int>(
                        "cublasLtMatrixLayoutInit_internal",
                    )?;
                let mut layout = Layout([0; 8]);
                let code = init(&mut layout, size_of::<Layout>(), kind, rows as u64, columns as u64, stride);
                answered("cublasLtMatrixLayoutInit", code).map(|()| layout)
            };
            let init = matmul.call::<unsafe extern "C" fn(*mut Operation, usize, c_int, c_int) -> c_int>(
                "cublasLtMatmulDescInit_internal",
            )?;
            let mut operation = Operation([0; 32]);
            let code = init(&mut operation, size_of::<Operation>(), COMPUTE_32F, R_32F);
            answered("cublasLtMatmulDescInit", code)?;
            let set = matmul
                .call::<unsafe extern "C" fn(*mut Operation, c_int, *const c_void, usize) -> c_int>(
                    "cublasLtMatmulDescSetAttribute",
                )?;
            let mut attribute = |which: c_int, value: *const c_void, size: usize| {
                answered("cublasLtMatmulDescSetAttribute", set(&mut operation, which, value, size))
            };
            attribute(DESC_TRANSA, (&raw const OP_T).cast(), size_of::<c_int>())?;
            let epilogue = if product.bias.is_some() { EPILOGUE_BIAS } else { EPILOGUE_DEFAULT };
            attribute(DESC_EPILOGUE, (&raw const epilogue).cast(), size_of::<c_int>())?;
            if let Some(bias) = product.bias {
                let pointer = bias.data_ptr();
                attribute(DESC_BIAS_POINTER, (&raw const pointer).cast(), size_of::<*mut c_void>())?;
            }
            if let Some((of_weight, of_input)) = product.scales {
                for (which, mode, tensor) in [
                    (DESC_A_SCALE_POINTER, DESC_A_SCALE_MODE, of_weight),
                    (DESC_B_SCALE_POINTER, DESC_B_SCALE_MODE, of_input),
                ] {
                    let pointer = tensor.data_ptr();
                    attribute(which, (&raw const pointer).cast(), size_of::<*mut c_void>())?;
                    attribute(mode, (&raw const SCALE_OUTER_VEC_32F).cast(), size_of::<c_int>())?;
                }
                attribute(DESC_FAST_ACCUM, (&raw const YES).cast(), size_of::<i8>())?;
            }
            let kind = if product.scales.is_some() { R_8F_E4M3 } else { matmul.kind };
            Ok(Prepared {
                operation,
                weight: layout(kind, inner, outer, product.weight_stride)?,
                input: layout(kind, inner, rows, product.input_stride)?,
                out: layout(matmul.kind, outer, rows, outer)?,
            })
        }
    }
}

fn answered(call: &str, code: c_int) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("`{call}` answers {code}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_again_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("products.json");
        assert!(read(&path).is_empty());
        let shape = Shape {
            rows: 2048,
            inner: 1280,
            outer: 1280,
            weight_stride: 1280,
            input_stride: 1280,
            has_bias: true,
            adds: false,
            has_scales: false,
        };
        let found = (shape, Algorithm([u64::MAX; 8]));
        fs::write(&path, serde_json::to_vec(&[found]).unwrap()).unwrap();
        assert_eq!(read(&path).into_iter().collect::<Vec<_>>(), [found]);
        for damaged in ["", "[[", r#"[[{"rows":1},[1]]]"#] {
            fs::write(&path, damaged).unwrap();
            assert!(read(&path).is_empty());
        }
    }
}
