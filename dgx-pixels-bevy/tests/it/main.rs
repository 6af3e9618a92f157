//! The plugin in games without a window, while sprites are deployed into their projects.

mod deploys;
mod faults;
mod remote;
mod rig;
