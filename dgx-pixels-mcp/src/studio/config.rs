//! The configuration of the server: its folders, its engine, and its limits.

use std::path::PathBuf;
use std::time::Duration;

use dgx_pixels_core::device::Device;
use dgx_pixels_core::engine::{Budget, EngineConfig};
use dgx_pixels_core::folders;
use dgx_pixels_core::library::Quota;
use dgx_pixels_manifest::GAME_PORT;

/// The settings of a [`Studio`](super::Studio).
#[derive(Clone, Debug)]
pub struct StudioConfig {
    /// The folder of assets.
    pub library: PathBuf,
    /// The limits of the library.
    pub quota: Quota,
    /// Folders of files that may be read on behalf of a client, beside the library.
    pub roots: Vec<PathBuf>,
    /// The name or the folder of the only model to serve. Default: all models that are found, and
    /// `sketch`.
    pub model: Option<String>,
    /// The device that draws.
    pub device: Device,
    /// Memory of the device that may be used.
    pub budget: Budget,
    /// Pictures that go a step together at most.
    pub max_batch: usize,
    /// Pictures that may wait to be drawn.
    pub max_queue: usize,
    /// The time that a call of the device may take before the device is given up.
    pub hang_after: Duration,
    /// The time that a call waits for its images; its job reports what is not done by then.
    pub wait: Duration,
    /// The port where a running game answers on this machine, if a call names no other.
    pub game_port: u16,
    /// `true` if libtorch may change what is global in this process, see
    /// [`LocalModels::owning_process`](dgx_pixels_core::local::LocalModels::owning_process).
    pub owns_process: bool,
    /// `true` to load libtorch when the server starts, and not when the first image is drawn.
    pub preload: bool,
    /// The folder of journals; `None` keeps no jobs over the end of the program.
    pub journals: Option<PathBuf>,
}

impl Default for StudioConfig {
    fn default() -> Self {
        StudioConfig {
            library: folders::data().unwrap_or_default().join("assets"),
            quota: Quota::default(),
            roots: vec![],
            model: None,
            device: Device::Auto,
            budget: Budget::default(),
            max_batch: 8,
            max_queue: 10_000,
            hang_after: EngineConfig::default().hang_after,
            wait: Duration::from_secs(45),
            game_port: GAME_PORT,
            owns_process: false,
            preload: false,
            journals: folders::state().map(|state| state.join("mcp")),
        }
    }
}
