//! The sources of readings, and which one is taken.

use std::fmt;
use std::str::FromStr;

use super::dcgm::Dcgm;
use super::demo::Demo;
use super::nvidia_smi::NvidiaSmi;
use super::nvml::NvmlSource;
use super::reading::GpuReading;
use crate::error::Error;
use crate::value_error::ValueError;

/// The name of a source of readings.
///
/// # Example
/// ```
/// use dgx_pixels_core::monitor::SourceName;
/// assert_eq!("nvidia-smi".parse(), Ok(SourceName::NvidiaSmi));
/// assert_eq!("dcgm".parse(), Ok(SourceName::Dcgm("http://127.0.0.1:9400/metrics".into())));
/// assert!("amd".parse::<SourceName>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceName {
    /// NVML, else `nvidia-smi`, else none.
    #[default]
    Auto,
    /// NVIDIA's management library, `libnvidia-ml.so.1`.
    Nvml,
    /// The program `nvidia-smi`.
    NvidiaSmi,
    /// NVIDIA's dcgm-exporter, at an address.
    Dcgm(String),
    /// Two GPUs that are made up, for trying dashboards without any.
    Demo,
}

/// The address where dcgm-exporter listens unless told otherwise.
const DCGM_ADDRESS: &str = "http://127.0.0.1:9400/metrics";

impl FromStr for SourceName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<SourceName, ValueError> {
        Ok(match text {
            "auto" => SourceName::Auto,
            "nvml" => SourceName::Nvml,
            "nvidia-smi" => SourceName::NvidiaSmi,
            "dcgm" => SourceName::Dcgm(DCGM_ADDRESS.into()),
            "demo" => SourceName::Demo,
            _ => match text.strip_prefix("dcgm=") {
                Some(address) if address.starts_with("http://") => SourceName::Dcgm(address.into()),
                _ => {
                    let expected =
                        "`auto`, `nvml`, `nvidia-smi`, `dcgm`, `dcgm=http://HOST:PORT/metrics` or `demo`";
                    return Err(ValueError::new("source", text, expected));
                }
            },
        })
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceName::Auto => f.write_str("auto"),
            SourceName::Nvml => f.write_str("nvml"),
            SourceName::NvidiaSmi => f.write_str("nvidia-smi"),
            SourceName::Dcgm(address) => write!(f, "dcgm={address}"),
            SourceName::Demo => f.write_str("demo"),
        }
    }
}

/// An open source.
pub(super) enum Source {
    None,
    Nvml(Box<NvmlSource>),
    NvidiaSmi(NvidiaSmi),
    Dcgm(Dcgm),
    Demo(Demo),
}

impl Source {
    pub(super) fn open(name: SourceName) -> Result<Source, Error> {
        let refused = |fault: String| Error::device(name.to_string(), fault);
        Ok(match &name {
            SourceName::Nvml => Source::Nvml(Box::new(NvmlSource::open().map_err(refused)?)),
            SourceName::NvidiaSmi => Source::NvidiaSmi(NvidiaSmi::open().map_err(refused)?),
            SourceName::Dcgm(address) => Source::Dcgm(Dcgm::new(address)),
            SourceName::Demo => Source::Demo(Demo::new()),
            SourceName::Auto => match NvmlSource::open() {
                Ok(nvml) => Source::Nvml(Box::new(nvml)),
                Err(fault) => match NvidiaSmi::open() {
                    Ok(smi) => {
                        tracing::info!(fault, "NVML is not there; the GPUs are read from nvidia-smi");
                        Source::NvidiaSmi(smi)
                    }
                    Err(_) => Source::None,
                },
            },
        })
    }

    /// The label of its metrics.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Source::None => None,
            Source::Nvml(_) => Some("nvml"),
            Source::NvidiaSmi(_) => Some("nvidia-smi"),
            Source::Dcgm(_) => Some("dcgm"),
            Source::Demo(_) => Some("demo"),
        }
    }

    pub(super) fn read(&mut self) -> Result<Vec<GpuReading>, String> {
        match self {
            Source::None => Ok(vec![]),
            Source::Nvml(nvml) => nvml.read(),
            Source::NvidiaSmi(smi) => smi.read(),
            Source::Dcgm(dcgm) => dcgm.read(),
            Source::Demo(demo) => Ok(demo.read()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for name in ["auto", "nvml", "nvidia-smi", "demo", "dcgm=http://gpu-box:9400/metrics"] {
            assert_eq!(name.parse::<SourceName>().unwrap().to_string(), name);
        }
        for name in ["", "NVML", "dcgm=ftp://x"] {
            let error = name.parse::<SourceName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`source` is `{name}`; expected `auto`")), "{error}");
        }
    }
}
