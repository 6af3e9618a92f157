//! GPUs as NVIDIA's driver describes them, without libtorch: the driver is loaded when it is first
//! asked.

use std::ffi::{CStr, c_char, c_int};

use libloading::{Library, Symbol};
use serde::Serialize;

/// The driver's library, `libcuda.so.1`.
pub(crate) struct Driver(Library);

/// A GPU, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// The N of `cuda:N`.
    pub index: usize,
    /// The name that its maker gave it.
    pub name: String,
    /// All of its memory; on an integrated GPU, the machine's.
    pub total_bytes: u64,
    /// The compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// The newest CUDA that the driver serves, for example `13.0`.
    pub driver_cuda: String,
    /// `true` if it shares the machine's memory, as GB10 does.
    pub integrated: bool,
}

const INTEGRATED: c_int = 18;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// The GPUs that the driver serves, in the order of their indices; there may be none.
///
/// # Errors
/// The reason why the driver cannot be asked, for example because none is installed.
///
/// # Example
/// ```
/// match dgx_pixels_core::gpu::gpus() {
///     Ok(gpus) => assert!(gpus.iter().enumerate().all(|(i, gpu)| gpu.index == i)),
///     Err(reason) => assert!(reason.contains("NVIDIA driver")),
/// }
/// ```
pub fn gpus() -> Result<Vec<Gpu>, String> {
    let driver = Driver::open()?;
    (0..driver.count()?).map(|index| driver.gpu(index)).collect()
}

/// The devices that a machine with `count` GPUs has, for errors.
pub(crate) fn range(count: usize) -> String {
    match count {
        0 => "this machine has no GPU".into(),
        _ => format!("this machine has {count} GPU(s), `cuda:0` to `cuda:{}`", count - 1),
    }
}

impl Driver {
    /// # Errors
    /// The reason why the driver does not start.
    pub(crate) fn open() -> Result<Self, String> {
        // SAFETY: the driver's library has no initialiser that asks anything of us.
        let library = unsafe { Library::new("libcuda.so.1") }
            .map_err(|_| "no NVIDIA driver is installed (`libcuda.so.1` is not found)".to_owned())?;
        let driver = Driver(library);
        // SAFETY: the signature is that of CUDA's driver API.
        let code = unsafe { driver.call::<unsafe extern "C" fn(u32) -> c_int>(b"cuInit")?(0) };
        if code != 0 {
            return Err(format!("the NVIDIA driver does not start: `cuInit` answers {code}"));
        }
        Ok(driver)
    }

    /// # Safety
    /// `name` is a function of the driver's of type `T`.
    pub(crate) unsafe fn call<T>(&self, name: &[u8]) -> Result<Symbol<'_, T>, String> {
        // SAFETY: the caller names a function of this type.
        unsafe { self.0.get(name) }.map_err(|error| format!("the NVIDIA driver is too old: {error}"))
    }

    /// The number of GPUs.
    pub(crate) fn count(&self) -> Result<usize, String> {
        let mut count = 0;
        // SAFETY: the signature is that of CUDA's driver API; the place outlives the call.
        unsafe {
            let get = self.call::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDeviceGetCount")?;
            answered("cuDeviceGetCount", get(&mut count))?;
        }
        Ok(count.max(0) as usize)
    }

    pub(crate) fn device(&self, index: usize) -> Result<c_int, String> {
        let mut device = 0;
        // SAFETY: the signature is that of CUDA's driver API; the place outlives the call.
        unsafe {
            let get = self.call::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet")?;
            answered("cuDeviceGet", get(&mut device, index as c_int))?;
        }
        Ok(device)
    }

    pub(crate) fn attribute(&self, device: c_int, which: c_int) -> Result<u32, String> {
        let mut value = 0;
        // SAFETY: the signature is that of CUDA's driver API; the place outlives the call.
        unsafe {
            let get = self
                .call::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(b"cuDeviceGetAttribute")?;
            answered("cuDeviceGetAttribute", get(&mut value, which, device))?;
        }
        Ok(value as u32)
    }

    /// The newest CUDA that the driver serves, for example 13000.
    pub(crate) fn version(&self) -> Result<c_int, String> {
        let mut version = 0;
        // SAFETY: the signature is that of CUDA's driver API; the place outlives the call.
        unsafe {
            let get = self.call::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDriverGetVersion")?;
            answered("cuDriverGetVersion", get(&mut version))?;
        }
        Ok(version)
    }

    /// The compute capability, major and minor.
    pub(crate) fn compute_capability(&self, index: usize) -> Result<(u32, u32), String> {
        let device = self.device(index)?;
        let read = |which| self.attribute(device, which);
        Ok((read(COMPUTE_CAPABILITY_MAJOR)?, read(COMPUTE_CAPABILITY_MINOR)?))
    }

    pub(crate) fn gpu(&self, index: usize) -> Result<Gpu, String> {
        let device = self.device(index)?;
        let mut name = [0 as c_char; 128];
        let mut total = 0usize;
        // SAFETY: the signatures are those of CUDA's driver API; all places outlive the calls.
        unsafe {
            let get_name =
                self.call::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(b"cuDeviceGetName")?;
            answered("cuDeviceGetName", get_name(name.as_mut_ptr(), name.len() as c_int, device))?;
            let total_mem =
                self.call::<unsafe extern "C" fn(*mut usize, c_int) -> c_int>(b"cuDeviceTotalMem_v2")?;
            answered("cuDeviceTotalMem", total_mem(&mut total, device))?;
        }
        let version = self.version()?;
        Ok(Gpu {
            index,
            // SAFETY: the driver has ended the text with a zero.
            name: unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned(),
            total_bytes: total as u64,
            compute_capability: self.compute_capability(index)?,
            driver_cuda: format!("{}.{}", version / 1000, version % 1000 / 10),
            integrated: self.attribute(device, INTEGRATED)? != 0,
        })
    }
}

pub(crate) fn answered(call: &str, code: c_int) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("`{call}` answers {code}")) }
}
