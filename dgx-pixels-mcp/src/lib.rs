//! The MCP server of DGX-Pixels: an agent asks for a sprite, sees it, and gets the file.
//!
//! A [`Studio`] holds what tools share: the engine of `dgx-pixels-core`, the library of assets, the
//! models. A [`Server`] answers one client's requests with it, over any of the [`transport`]s.
//! `docs/mcp.md` is the reference of tools, resources and prompts.
//!
//! # Example
//! ```no_run
//! use dgx_pixels_mcp::{Server, Studio, StudioConfig, transport};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let studio = Studio::open(StudioConfig { library: "assets".into(), ..Default::default() })?;
//! transport::serve_stdio(Server::new(studio), CancellationToken::new()).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
pub mod clients;
mod metrics;
mod pictures;
mod pixel_work;
mod preview;
mod prompts;
mod resources;
mod server;
mod session;
mod studio;
pub mod styles;
mod tools;
pub mod transport;

pub use server::Server;
pub use studio::{ModelCard, Studio, StudioConfig};
pub use tools::{Group, ToolSet};
