//! Groups of tools, which can be switched on and off for a server.

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;
use std::sync::Arc;

use super::{ALL, Kind};

/// Tools that are switched on together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Draw sprites from prompts: generate_sprite, generate_batch, get_job, cancel_job,
    /// list_models.
    Generate,
    /// Make sprites of existing images: pixelize_image.
    Pixelize,
    /// Look at what was made: list_assets, get_asset, validate_assets; also the resources.
    Library,
    /// Deploy into a Bevy game, and look at it: deploy_to_bevy, game_status, game_screenshot.
    Game,
}

impl Group {
    /// All groups.
    pub const ALL: [Group; 4] = [Group::Generate, Group::Pixelize, Group::Library, Group::Game];
}

/// The tools that a server lists and takes calls of. Default: all.
///
/// # Example
/// ```
/// use dgx_pixels_mcp::{Group, ToolSet};
/// let tools = ToolSet::new([Group::Library, Group::Game], true);
/// assert!(tools.has("game_status") && !tools.has("deploy_to_bevy") && !tools.has("generate_sprite"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSet {
    groups: Vec<Group>,
    read_only: bool,
}

impl Default for ToolSet {
    fn default() -> Self {
        ToolSet { groups: Group::ALL.into(), read_only: false }
    }
}

impl ToolSet {
    /// The tools of `groups`; where `read_only`, those of them that change nothing.
    pub fn new(groups: impl IntoIterator<Item = Group>, read_only: bool) -> ToolSet {
        ToolSet { groups: groups.into_iter().collect(), read_only }
    }

    /// `true` if the tool of this name is in the set.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&'static Kind> {
        self.kinds().find(|kind| kind.tool.name == name)
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &'static Kind> {
        ALL.iter().filter(|kind| {
            let changes =
                kind.tool.annotations.as_ref().is_none_or(|hints| hints.read_only_hint != Some(true));
            self.groups.contains(&kind.group) && !(self.read_only && changes)
        })
    }

    /// A tool as clients of this set are told of it: without the arguments that do what another
    /// group is for.
    pub(crate) fn describe(&self, kind: &Kind) -> Tool {
        let mut tool = kind.tool.clone();
        if kind.game_arguments.is_empty() || self.has("deploy_to_bevy") {
            return tool;
        }
        let mut schema: JsonObject = (*tool.input_schema).clone();
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.retain(|name, _| !kind.game_arguments.contains(&name.as_str()));
        }
        tool.input_schema = Arc::new(schema);
        // What replaced a sprite in a game only adds now.
        tool.annotations = tool.annotations.map(|hints| hints.destructive(false));
        tool
    }
}
