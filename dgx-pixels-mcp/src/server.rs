//! One client's requests: tools, resources, prompts, completion.

use std::sync::LazyLock;
use std::time::Duration;

use dgx_pixels_core::library::Changes;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
    CompleteResult, CompletionInfo, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult,
    Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::studio::Studio;
use crate::tools::{self, Call, Listener};
use crate::{prompts, resources};

/// How soon the work of other servers is noticed; it takes one question to the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lists that only another version of the program changes.
const CONSTANT_MS: u64 = 3_600_000;

const INSTRUCTIONS: &str = "\
Makes game-ready pixel art on the user's own machine: `generate_sprite` draws a sprite from a prompt and saves a PNG; look at the \
preview, and call again with another seed, fewer `max_colors`, or a `palette` if it is not right. `list_models` names models, \
styles and palettes. Pictures that take long go on as jobs: `get_job` waits for them. `list_assets` finds what was made; each \
asset is a file at `path`, and the resource `sprite://ASSET_ID/sprite.png`. Say one thing and its colours in a prompt: \"a red \
dragon\". Several things in one look: `generate_batch`.";

/// Answers a client. Its copies share all they know.
#[derive(Clone)]
pub struct Server {
    studio: Studio,
    tasks: TaskManager,
}

impl Server {
    /// A server in front of `studio`.
    pub fn new(studio: Studio) -> Server {
        Server { studio, tasks: TaskManager::new() }
    }

    /// The tools, as clients are told of them.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_mcp::Server;
    /// assert!(Server::tools().iter().any(|tool| tool.name == "generate_sprite"));
    /// ```
    pub fn tools() -> Vec<Tool> {
        tools::ALL.iter().map(|kind| kind.tool.clone()).collect()
    }

    /// Returns when the assets have changed, by this server or by another one.
    async fn next(&self, changes: &mut Changes) {
        loop {
            tokio::select! {
                () = changes.next() => return,
                () = sleep(LOOK_EVERY) => {
                    let studio = self.studio.clone();
                    let looked = spawn_blocking(move || studio.library().refresh()).await;
                    if let Ok(Err(error)) = looked {
                        tracing::warn!(%error, "changes of the library are not seen");
                    }
                }
            }
        }
    }
}

static CONFIG: LazyLock<ServerConfig> = LazyLock::new(|| {
    let capabilities = ServerCapabilities::builder()
        .enable_tools()
        .enable_resources()
        .enable_resources_list_changed()
        .enable_prompts()
        .enable_completions()
        .enable_tasks()
        .build();
    let mut about = Implementation::new("dgx-pixels", env!("CARGO_PKG_VERSION"));
    about.title = Some("DGX-Pixels".into());
    about.description = Some(env!("CARGO_PKG_DESCRIPTION").into());
    ServerConfig::new(capabilities).with_server_info(about).with_instructions(INSTRUCTIONS)
});

/// Whoever asks for a page beyond the only one has made its cursor up.
fn only_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor) {
        Some(cursor) => {
            Err(ErrorData::invalid_params(format!("`cursor` is `{cursor}`; there is one page"), None))
        }
        None => Ok(()),
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        CONFIG.clone()
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        only_page(request)?;
        let all = ListToolsResult::with_all_items(Server::tools());
        Ok(all.with_ttl_ms(CONSTANT_MS).with_cache_scope(CacheScope::Public))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::ALL.iter().find(|kind| kind.tool.name == name).map(|kind| kind.tool.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let has_tasks = context.client_capabilities().is_some_and(|client| client.supports_tasks());
        let call = Call {
            studio: self.studio.clone(),
            cancelled: context.ct.clone(),
            listener: match context.meta.get_progress_token() {
                Some(token) => Listener::Client(context.peer.clone(), token),
                None => Listener::Nobody,
            },
            tasks: has_tasks.then(|| self.tasks.clone()),
        };
        match tools::call(&request.name, call, request.arguments).await {
            Some(response) => Ok(response),
            None => {
                let names: Vec<_> = tools::ALL.iter().map(|kind| format!("`{}`", kind.tool.name)).collect();
                let message = format!("there is no tool `{}`; there are {}", request.name, names.join(", "));
                Err(ErrorData::invalid_params(message, None))
            }
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        resources::list(&self.studio, request.and_then(|request| request.cursor)).await
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        only_page(request)?;
        let all = ListResourceTemplatesResult::with_all_items(resources::templates());
        Ok(all.with_ttl_ms(CONSTANT_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&self.studio, request.uri).await.map(Into::into)
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        only_page(request)?;
        let all = ListPromptsResult::with_all_items(prompts::list());
        Ok(all.with_ttl_ms(CONSTANT_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request.name, request.arguments.unwrap_or_default()).map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let mut values = prompts::complete(&self.studio, &request.argument.name, &request.argument.value);
        let total = values.len() as u32;
        values.truncate(CompletionInfo::MAX_VALUES);
        let has_more = total as usize > values.len();
        let info = CompletionInfo::with_pagination(values, Some(total), has_more);
        info.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = SubscriptionFilter::default();
        accepted.resources_list_changed = requested.resources_list_changed.filter(|wanted| *wanted);
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.studio.library().changes();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                () = self.next(&mut changes) => {
                    if context.sink().notify_resource_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        // Clients of older revisions do not subscribe: they are told for as long as they are there.
        let (server, mut changes, peer) = (self.clone(), self.studio.library().changes(), context.peer);
        tokio::spawn(async move {
            while !peer.is_transport_closed() {
                server.next(&mut changes).await;
                if peer.notify_resource_list_changed().await.is_err() {
                    return;
                }
            }
        });
    }
}
