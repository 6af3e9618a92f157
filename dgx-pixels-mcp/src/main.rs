//! `dgx-pixels-mcp`, the program.

mod health;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use dgx_pixels_core::device::Device;
use dgx_pixels_core::engine::Budget;
use dgx_pixels_core::library::{Clean, Library, Quota};
use dgx_pixels_core::monitor::{Monitor, SourceName};
use dgx_pixels_core::printable::printable;
use dgx_pixels_core::telemetry::{LogStyle, Telemetry};
use dgx_pixels_core::{Error, ErrorKind, one_line};
use dgx_pixels_manifest::GAME_PORT;
use dgx_pixels_mcp::clients::Client;
use dgx_pixels_mcp::transport::{self, HttpConfig, Ops, Token, TransportError};
use dgx_pixels_mcp::{Group, Server, Studio, StudioConfig, ToolSet};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Game-ready pixel art for AI agents, over the Model Context Protocol.
#[derive(Parser)]
#[command(name = "dgx-pixels-mcp", bin_name = "dgx-pixels-mcp", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one client by standard input and output, as clients start it.
    Stdio(Serving),
    /// Serve many clients at http://ADDRESS/mcp, and older ones at /sse.
    Http(Http),
    /// Ask a server of this machine whether it is well: nothing is printed and the exit code is 0
    /// if it is.
    Health(health::Args),
    /// Print what goes into a client's configuration.
    PrintConfig(PrintConfig),
    /// Remove old assets from the library.
    Clean(Cleaning),
}

#[derive(Args)]
struct Serving {
    /// The folder of assets. Default: `$XDG_DATA_HOME/dgx-pixels/assets`.
    #[arg(long, value_name = "DIR")]
    library: Option<PathBuf>,

    /// Bytes that the library may hold; more is refused until `clean` has made room.
    #[arg(long, value_name = "BYTES", default_value = "4GiB")]
    quota: ByteSize,

    /// A folder that images may be read from, beside the library and the current folder. May be
    /// given again.
    #[arg(long = "root", value_name = "DIR")]
    roots: Vec<PathBuf>,

    /// A model's name or folder, to serve this model alone. Default: all that are found, and
    /// `sketch`, which is built in.
    #[arg(long, value_name = "NAME|PATH")]
    model: Option<String>,

    /// `cpu`, `cuda:N`, or `auto`: the first GPU if there is one.
    #[arg(long, value_name = "D", default_value_t = Device::Auto)]
    device: Device,

    /// Memory of the device that may be used: bytes such as `60GiB`, a share such as `80%`, or
    /// `-4GiB` to leave 4 GiB free.
    #[arg(long, value_name = "B", default_value = "90%", allow_hyphen_values = true)]
    budget: Budget,

    /// Seconds that a call waits for its sprites; unfinished sprites continue as jobs. Many
    /// clients give up after 60.
    #[arg(long, value_name = "SECONDS", default_value_t = 45, value_parser = clap::value_parser!(u64).range(..=3600))]
    wait: u64,

    /// Images that may wait to be drawn. More are refused, with a time to come back.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_queue: u32,

    /// Images that advance a step together, at most.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    max_batch: u16,

    /// Seconds that one call of the device may take. A device that takes longer is given up, and
    /// its jobs fail.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    hang_after: u32,

    /// Load libtorch when the server starts. Default: when the first image is drawn, which then
    /// takes a second longer.
    #[arg(long)]
    preload: bool,

    /// The port of the running Bevy game on this machine.
    #[arg(long, value_name = "PORT", env = "BRP_EXTRAS_PORT", hide_env_values = true, default_value_t = GAME_PORT)]
    game_port: u16,

    /// Groups of tools that clients may call, for example `library,game`. Prompts and resources of
    /// the others are gone as well. Default: all.
    #[arg(long, value_name = "GROUPS", value_enum, value_delimiter = ',', num_args = 1)]
    tools: Option<Vec<Group>>,

    /// Offer only tools that change nothing: they list, look and check, and neither draw nor
    /// deploy.
    #[arg(long)]
    read_only: bool,
}

#[derive(Args)]
struct Http {
    #[command(flatten)]
    serving: Serving,

    /// The address and port to listen on. Any address but the loopback needs a token.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8077")]
    bind: SocketAddr,

    /// A file with the token that clients show as `Authorization: Bearer TOKEN`. The environment's
    /// DGX_PIXELS_MCP_TOKEN does as well.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// A name of this machine that may stand in `Host`, beside `localhost`. May be given again.
    #[arg(long = "allow-host", value_name = "NAME")]
    hosts: Vec<String>,

    /// A web page that may ask, for example `https://example.org`. May be given again.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,

    /// The most connections at once. For a new one beyond them, the slowest or idlest is closed.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,

    /// The most calls at once that take longer than a moment, for example calls that draw. More are
    /// answered with 503.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    max_requests: u16,

    /// The source of `/metrics` for GPUs: `auto`, `nvml`, `nvidia-smi`, `dcgm`,
    /// `dcgm=http://HOST:PORT/metrics`, or `demo`, which makes two GPUs up.
    #[arg(long, value_name = "SOURCE", default_value_t = SourceName::Auto)]
    gpu_source: SourceName,

    /// Seconds that a client may take to send a request, or to read an answer, before its
    /// connection is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    patience: u16,
}

#[derive(Args)]
struct PrintConfig {
    client: Client,

    /// The arguments to start the program with, after `--`. Default: `stdio`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["older_than", "keep_newest"])))]
struct Cleaning {
    /// The folder of assets. Default: `$XDG_DATA_HOME/dgx-pixels/assets`.
    #[arg(long, value_name = "DIR")]
    library: Option<PathBuf>,

    /// Delete the assets that were added at least this many days ago.
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,

    /// Delete all assets but this many, the newest.
    #[arg(long, value_name = "N")]
    keep_newest: Option<usize>,

    /// Print the assets that would be deleted, and delete none.
    #[arg(long)]
    dry_run: bool,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        // Help and version hold nothing of the caller's.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let _ = write!(io::stderr(), "{}", printable(&error.render().to_string()));
            return ExitCode::from(2);
        }
    };
    // Standard output is the protocol's.
    let style = LogStyle { filter: "warn,dgx_pixels_mcp=info,dgx_pixels_core=info", full: true };
    let _telemetry = Telemetry::begin("dgx-pixels-mcp", style);
    let done = match command {
        Command::Stdio(serving) => serve(serving, None),
        Command::Http(http) => {
            let config = HttpConfig {
                bind: http.bind,
                allowed_hosts: http.hosts,
                allowed_origins: http.origins,
                max_connections: http.max_connections.into(),
                max_requests: http.max_requests.into(),
                patience: Duration::from_secs(http.patience.into()),
                ..Default::default()
            };
            serve(http.serving, Some((config, http.token_file, http.gpu_source)))
        }
        Command::Health(args) => health::run(&args).map_err(Failure::from),
        Command::PrintConfig(wanted) => print_config(&wanted),
        Command::Clean(wanted) => clean(&wanted),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", printable(&one_line(&*error)));
            let kind = error.downcast_ref().map_or(ErrorKind::Internal, Error::kind);
            ExitCode::from(kind.exit_code())
        }
    }
}

fn library(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let default = || dgx_pixels_core::folders::data().map(|data| data.join("assets"));
    named
        .or_else(default)
        .ok_or_else(|| "there is no home folder to keep assets in; give `--library DIR`".into())
}

impl Serving {
    fn tools(&self) -> ToolSet {
        ToolSet::new(self.tools.clone().unwrap_or(Group::ALL.into()), self.read_only)
    }

    fn studio(self) -> Result<Studio, Failure> {
        let here = std::env::current_dir()?;
        let config = StudioConfig {
            library: library(self.library)?,
            quota: Quota { max_bytes: Some(self.quota.as_u64()), max_assets: None },
            // A client starts the program in the user's home or in `/` if it has no project: that
            // is no folder to be read from.
            roots: self.roots.into_iter().chain(is_project(&here).then_some(here)).collect(),
            model: self.model,
            device: self.device,
            budget: self.budget,
            max_batch: self.max_batch.into(),
            max_queue: self.max_queue as usize,
            hang_after: Duration::from_secs(self.hang_after.into()),
            wait: Duration::from_secs(self.wait),
            game_port: self.game_port,
            owns_process: true,
            preload: self.preload,
            ..Default::default()
        };
        Ok(Studio::open(config)?)
    }
}

fn is_project(folder: &std::path::Path) -> bool {
    folder.parent().is_some() && std::env::home_dir().is_none_or(|home| !home.starts_with(folder))
}

fn token(file: Option<PathBuf>) -> Result<Option<Token>, TransportError> {
    match (file, std::env::var("DGX_PIXELS_MCP_TOKEN")) {
        (Some(file), _) => Token::read(&file).map(Some),
        (None, Ok(text)) => Token::new(&text).map(Some),
        (None, Err(_)) => Ok(None),
    }
}

fn serve(serving: Serving, http: Option<(HttpConfig, Option<PathBuf>, SourceName)>) -> Result<(), Failure> {
    let tools = serving.tools();
    let studio = serving.studio()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(studio.clone(), stop.clone())?;
        let warm = studio.clone();
        tokio::spawn(async move {
            if let Err(error) = warm.warm_up().await {
                let error = one_line(&error);
                tracing::warn!(error, "nothing can be drawn yet; it is tried again at the first call");
            }
        });
        let server = Server::new(studio.clone()).with_tools(tools);
        let Some((config, token_file, gpu_source)) = http else {
            return Ok::<_, Failure>(transport::serve_stdio(server, stop).await?);
        };
        let listening = transport::bind(HttpConfig { token: token(token_file)?, ..config }).await?;
        tracing::info!("listening on http://{}/mcp", listening.local_addr()?);
        let (ready, measured) = (studio.clone(), studio.clone());
        let monitor = Monitor::open(gpu_source)?;
        let ops = Ops {
            ready: Arc::new(move || {
                ready.running().map(drop).ok_or_else(|| "the engine has not started".into())
            }),
            metrics: Arc::new(move || measured.metrics_text() + &monitor.text()),
        };
        listening.serve(server, ops, stop).await;
        Ok(())
    });
    studio.shut_down();
    // Threads that load a model are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    served
}

/// Ctrl-C and `kill` end the program at the next step; what is not finished is done by the next
/// one.
fn stop_on_signals(studio: Studio, stop: CancellationToken) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        studio.begin_to_stop();
        stop.cancel();
        tracing::info!("stopping");
    });
    Ok(())
}

fn print_config(wanted: &PrintConfig) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let arguments = match wanted.arguments.as_slice() {
        [] => vec!["stdio".to_owned()],
        given => given.to_vec(),
    };
    let program =
        program.into_os_string().into_string().unwrap_or_else(|path: OsString| path.display().to_string());
    eprintln!("into {}:", wanted.client.file());
    let block = wanted.client.block(&program, &arguments);
    // A file gets the block as it is.
    let block = if io::stdout().is_terminal() { printable(&block) } else { block.into() };
    println!("{block}");
    Ok(())
}

fn clean(wanted: &Cleaning) -> Result<(), Failure> {
    let library = Library::open(library(wanted.library.clone())?, Quota::default())?;
    let cleaned = library.clean(Clean {
        older_than: wanted.older_than.map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        keep_newest: wanted.keep_newest,
        dry_run: wanted.dry_run,
    })?;
    for id in &cleaned.removed {
        println!("{id}");
    }
    let verb = if wanted.dry_run { "would be removed" } else { "removed" };
    eprintln!("{} assets {verb}, {}", cleaned.removed.len(), ByteSize(cleaned.bytes));
    Ok(())
}
