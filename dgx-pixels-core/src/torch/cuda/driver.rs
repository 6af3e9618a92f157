//! The calls of NVIDIA's driver that put our kernels on a GPU and start them: libtorch starts none
//! but its own.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr;

use crate::gpu::{Driver, answered};

/// A kernel that is on the GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(*mut c_void);

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    pub(super) grid: (u32, u32),
    pub(super) threads: u32,
    pub(super) shared_bytes: u32,
    /// Whether it may be started before the one before has ended: from compute capability 9.0 on.
    pub(super) early: bool,
}

const MULTIPROCESSOR_COUNT: c_int = 16;

impl Driver {
    pub(super) fn multiprocessors(&self, index: usize) -> Result<u32, String> {
        self.attribute(self.device(index)?, MULTIPROCESSOR_COUNT)
    }

    /// Puts compiled kernels on the current device, where they stay: they are as many as this
    /// program has dtypes and GPUs.
    pub(super) fn load(&self, cubin: &[u8]) -> Result<Module<'_>, String> {
        let mut module = ptr::null_mut();
        // SAFETY: signature as in CUDA's driver API; the driver checks the bytes, and copies them.
        unsafe {
            let load = self.call::<unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> c_int>(
                b"cuModuleLoadData",
            )?;
            answered("cuModuleLoadData", load(&mut module, cubin.as_ptr().cast()))?;
        }
        Ok(Module { driver: self, module })
    }

    /// Milliseconds that the work which `once` gives to `stream` takes there.
    pub(super) fn time(
        &self,
        stream: *mut c_void,
        once: &dyn Fn() -> Result<(), String>,
    ) -> Result<f64, String> {
        type Event = *mut c_void;
        // SAFETY: signatures as in CUDA's driver API; both events are made and destroyed here.
        unsafe {
            let create = self.call::<unsafe extern "C" fn(*mut Event, c_uint) -> c_int>(b"cuEventCreate")?;
            let record = self.call::<unsafe extern "C" fn(Event, *mut c_void) -> c_int>(b"cuEventRecord")?;
            let wait = self.call::<unsafe extern "C" fn(Event) -> c_int>(b"cuEventSynchronize")?;
            let between =
                self.call::<unsafe extern "C" fn(*mut f32, Event, Event) -> c_int>(b"cuEventElapsedTime")?;
            let destroy = self.call::<unsafe extern "C" fn(Event) -> c_int>(b"cuEventDestroy_v2")?;
            let (mut begin, mut end) = (ptr::null_mut(), ptr::null_mut());
            answered("cuEventCreate", create(&mut begin, 0))?;
            answered("cuEventCreate", create(&mut end, 0))?;
            let timed = || {
                let mut milliseconds = 0f32;
                answered("cuEventRecord", record(begin, stream))?;
                once()?;
                answered("cuEventRecord", record(end, stream))?;
                answered("cuEventSynchronize", wait(end))?;
                answered("cuEventElapsedTime", between(&mut milliseconds, begin, end))?;
                Ok(f64::from(milliseconds))
            };
            let timed = timed();
            destroy(begin);
            destroy(end);
            timed
        }
    }

    /// Lets a kernel have more shared memory than it gets unasked.
    pub(super) fn allow_shared(&self, function: Function, bytes: u32) -> Result<(), String> {
        const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
        // SAFETY: signature as in CUDA's driver API.
        unsafe {
            let set =
                self.call::<unsafe extern "C" fn(*mut c_void, c_int, c_int) -> c_int>(b"cuFuncSetAttribute")?;
            answered("cuFuncSetAttribute", set(function.0, MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes as c_int))
        }
    }

    /// What lies at `address`, as the bulk copies of Hopper see it.
    ///
    /// # Safety
    /// `address` is that of so many numbers, on the GPU, and lives as long as kernels that get the
    /// map.
    pub(super) unsafe fn tensor_map<const D: usize>(
        &self,
        address: *mut c_void,
        boxes: &Boxes<D>,
    ) -> Result<TensorMap, String> {
        const L2_PROMOTION_128B: c_int = 2;
        let Boxes { of, sizes, strides, sides, swizzle } = boxes;
        let kind = match of {
            Number::Byte => 0,
            Number::F16 => 6,
            Number::Bf16 => 9,
        };
        let mut map = TensorMap([0; 16]);
        let sizes = sizes.map(|size| size as u64);
        let strides = strides.map(|stride| stride as u64 * of.bytes());
        // SAFETY: signature as in CUDA's driver API; all places outlive the call, which copies
        // them.
        unsafe {
            let encode = self.call::<unsafe extern "C" fn(
                *mut TensorMap,
                c_int,
                c_uint,
                *mut c_void,
                *const u64,
                *const u64,
                *const c_uint,
                *const c_uint,
                c_int,
                c_int,
                c_int,
                c_int,
            ) -> c_int>(b"cuTensorMapEncodeTiled")?;
            let code = encode(
                &mut map,
                kind,
                D as c_uint,
                address,
                sizes.as_ptr(),
                // The first is that of neighbours, which the driver knows.
                strides[1..].as_ptr(),
                sides.as_ptr(),
                [1; D].as_ptr(),
                0,
                *swizzle as c_int,
                L2_PROMOTION_128B,
                0,
            );
            answered("cuTensorMapEncodeTiled", code)?;
        }
        Ok(map)
    }

    /// Gives a kernel to a stream.
    ///
    /// # Safety
    /// `arguments` point to what `function` takes, of the same types and in the same order; tensors
    /// among them live until the stream is there.
    pub(super) unsafe fn launch(
        &self,
        function: Function,
        launch: Launch,
        stream: *mut c_void,
        arguments: &mut [*mut c_void],
    ) -> Result<(), String> {
        let Launch { grid: (x, y), threads, shared_bytes, early } = launch;
        // The kernel waits by itself for the one before (`begin` in `kernels.cu`): until then it
        // may be got ready.
        const PROGRAMMATIC_STREAM_SERIALIZATION: c_int = 6;
        let mut serialization =
            Attribute { id: PROGRAMMATIC_STREAM_SERIALIZATION, padding: 0, value: [0; 16] };
        serialization.value[0] = 1;
        let config = Config {
            grid: [x, y, 1],
            block: [threads, 1, 1],
            shared_bytes,
            stream,
            attributes: &serialization,
            attribute_count: c_uint::from(early),
        };
        // SAFETY: signature and structures as in CUDA's driver API; the caller answers for the
        // arguments.
        unsafe {
            let launch = self.call::<unsafe extern "C" fn(
                *const Config,
                *mut c_void,
                *mut *mut c_void,
                *mut *mut c_void,
            ) -> c_int>(b"cuLaunchKernelEx")?;
            let code = launch(&config, function.0, arguments.as_mut_ptr(), ptr::null_mut());
            answered("cuLaunchKernelEx", code)
        }
    }
}

/// An array that is copied in boxes; the dimension whose numbers lie beside each other first. What
/// a box has beyond the array is zeros.
pub(super) struct Boxes<const D: usize> {
    pub(super) of: Number,
    pub(super) sizes: [i64; D],
    /// In numbers.
    pub(super) strides: [i64; D],
    pub(super) sides: [u32; D],
    pub(super) swizzle: Swizzle,
}

impl<const D: usize> Boxes<D> {
    /// Of an array without gaps.
    pub(super) fn dense(of: Number, sizes: [i64; D], sides: [u32; D], swizzle: Swizzle) -> Boxes<D> {
        let mut strides = [1; D];
        for i in 1..D {
            strides[i] = strides[i - 1] * sizes[i - 1];
        }
        Boxes { of, sizes, strides, sides, swizzle }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Number {
    Byte,
    F16,
    Bf16,
}

impl Number {
    fn bytes(self) -> u64 {
        match self {
            Number::Byte => 1,
            Number::F16 | Number::Bf16 => 2,
        }
    }

    /// As many as a row of 128 bytes has.
    pub(super) fn row(self) -> u32 {
        128 / self.bytes() as u32
    }
}

/// How the rows of a box are mixed in shared memory, by as many bytes as a row of it has.
#[derive(Clone, Copy)]
pub(super) enum Swizzle {
    Bytes64 = 2,
    Bytes128 = 3,
}

/// `CUtensorMap`.
#[repr(C, align(64))]
pub(super) struct TensorMap([u64; 16]);

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    stream: *mut c_void,
    attributes: *const Attribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`.
#[repr(C)]
struct Attribute {
    id: c_int,
    padding: c_int,
    value: [c_int; 16],
}

/// Compiled kernels on a GPU.
pub(super) struct Module<'a> {
    driver: &'a Driver,
    module: *mut c_void,
}

impl Module<'_> {
    pub(super) fn function(&self, name: &str) -> Result<Function, String> {
        let text = CString::new(name).expect("a kernel's name has no zero; this is a bug");
        let mut function = ptr::null_mut();
        // SAFETY: signature as in CUDA's driver API; the module is loaded.
        unsafe {
            let get =
                self.driver
                    .call::<unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int>(
                        b"cuModuleGetFunction",
                    )?;
            answered(name, get(&mut function, self.module, text.as_ptr()))?;
        }
        Ok(Function(function))
    }
}
