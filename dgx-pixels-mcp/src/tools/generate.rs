//! `generate_sprite` and `generate_batch`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dgx_pixels_core::fields::{FieldError, SpriteFields, json};
use dgx_pixels_core::files::read_opened;
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::library::AssetName;
use dgx_pixels_core::{Error, GenerateRequest, ImageSize, Submission, ValueError, one_line};
use rmcp::model::{CallToolResponse, CreateTaskResult, JsonObject, ToolAnnotations};
use rmcp::task_manager::{TaskExit, TaskManager, TaskOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::game::Onto;
use super::{Answer, Call, Group, Kind, Listener, Response, Wrong, blocking, wrong};
use crate::answer::{Fault, bytes, facts, text, with_picture, without_nulls};
use crate::pictures::{MAX_FILE_BYTES, of_library};
use crate::pixel_work::{Length, Stop};
use crate::preview::{MOST_SPRITES, contact_sheet, preview};
use crate::studio::{PlannedSprite, Studio, Waiting, Work};
use crate::styles::{self, Style};

const SPRITE: &str = "generate_sprite";
const BATCH: &str = "generate_batch";
/// The longest time that a task may take, and the time for which it is remembered after that. Its
/// jobs are not bound by it.
const TASK_MS: u64 = 12 * 60 * 60 * 1000;
/// The time after which a client should ask for a task again, in milliseconds.
const TASK_POLL_MS: u64 = 1000;
const TELL_EVERY: Duration = Duration::from_millis(100);
const MAX_COUNT: u64 = 16;
const MAX_PROMPTS: usize = 64;
/// Models read some 300 characters of it.
const MAX_PROMPT_CHARS: usize = 2000;
const SIDES: RangeInclusive<u32> = 8..=256;
/// The arguments that put a sprite into a game.
const GAME_ARGUMENTS: &[&str] = &["project", "category"];
/// The most bytes of what is told of all assets of a call; where it would be more, less is told of
/// each.
const MAX_ASSETS_BYTES: usize = 300 << 10;
/// The most jobs that failed of which the errors are told.
const MAX_ERRORS: usize = 50;

pub(super) fn tools() -> Vec<Kind> {
    // With `project`, a sprite of the same name is replaced in the game.
    let draws =
        || ToolAnnotations::new().read_only(false).destructive(true).idempotent(false).open_world(false);
    let schema = (*SCHEMAS[1]).clone();
    let run: super::Run = Arc::new(|call, arguments| Box::pin(generate_sprite(call, arguments)));
    let sprite = Kind::raw(Group::Generate, SPRITE, "Generate a sprite", draws(), schema, run);
    let run: super::Run = Arc::new(|call, arguments| Box::pin(generate_batch(call, arguments)));
    let batch = Kind::raw(Group::Generate, BATCH, "Generate many sprites", draws(), batch_schema(), run);
    [sprite, batch].map(|kind| kind.with_game_arguments(GAME_ARGUMENTS)).into()
}

/// Draws pixel art from a prompt and saves it as a PNG with a true pixel grid, a small palette and
/// alpha that is 0 or 255. Answers with the file's absolute path, its asset_id, and a preview.
/// Waits up to 45 seconds; if the image is not done by then, the answer is a job_id to be given to
/// `get_job`. Example: {"prompt":"a green slime","width":32,"height":32,"max_colors":8}
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct OwnArguments {
    /// A name from `list_models`. Default: the server's own choice.
    model: Option<String>,
    /// A style preset from `list_models`, for example "8bit". The other arguments of the call go
    /// before it.
    style: Option<String>,
    /// Width of the sprite in its own pixels. Default: `height`, or the model's own.
    #[schemars(range(min = 8, max = 256))]
    width: Option<u32>,
    /// Height of the sprite in its own pixels. Default: `width`, or the model's own.
    #[schemars(range(min = 8, max = 256))]
    height: Option<u32>,
    /// The asset's name, of a-z, 0-9, `_` and `-`, at most 64 characters. A name that is taken gets
    /// a number: "slime-2". Default: from the prompt.
    name: Option<String>,
    /// Folder of a Bevy game, into which the sprite is also deployed, as `deploy_to_bevy` does. It
    /// takes `category`, or a `name` such as "enemy_slime".
    project: Option<PathBuf>,
    /// The use of the sprite in the game, for example "enemy"; its name in the game begins with it.
    category: Option<String>,
}

/// The arguments of a call that draws: the fields of a sprite, and those of the tool.
struct GenerateSprite {
    own: OwnArguments,
    fields: SpriteFields,
}

/// The schemas of [`OwnArguments`] and of [`GenerateSprite`].
static SCHEMAS: LazyLock<[Arc<JsonObject>; 2]> = LazyLock::new(|| {
    let own = json::schema::<OwnArguments>();
    let mut all = (*SpriteFields::schema()).clone();
    all.insert("description".into(), own["description"].clone());
    if let (Some(Value::Object(all)), Some(Value::Object(own))) =
        (all.get_mut("properties"), own.get("properties"))
    {
        all.extend(own.clone());
        all["count"]["maximum"] = json!(MAX_COUNT);
    }
    [own, Arc::new(all)]
});

impl GenerateSprite {
    fn parse(mut given: JsonObject) -> Result<GenerateSprite, FieldError> {
        let [own, all] = &*SCHEMAS;
        json::only_known(all, &given)?;
        let own: OwnArguments = json::take(own, &mut given)?;
        let style = own.style.as_deref().map(style_of).transpose()?;
        let names: Vec<_> =
            given.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect();
        // A style holds where the call says nothing.
        let mut whole = style.map(|style| style.fields.clone()).unwrap_or_default();
        whole.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
        let mut fields = SpriteFields::take(&mut whole)?;
        fields.pixel.size = own.size(fields.pixel.size)?;
        fields.check(|name| names.iter().any(|given| given == name))?;
        let texts = [
            ("prompt", Some(&fields.request.prompt)),
            ("negative_prompt", fields.request.negative_prompt.as_ref()),
        ];
        for (field, text) in texts {
            let chars = text.map_or(0, |text| text.chars().count());
            if chars > MAX_PROMPT_CHARS {
                let text = format!("`{field}` has {chars} characters; expected at most {MAX_PROMPT_CHARS}");
                return Err(FieldError::new(field, text));
            }
        }
        Ok(GenerateSprite { own, fields })
    }
}

/// The schema of [`GenerateSprite`] with many prompts in place of one.
fn batch_schema() -> JsonObject {
    let mut schema = (*SCHEMAS[1]).clone();
    let description = "Draws one sprite (or `count`) for each of several prompts, all in one look, and saves each as a PNG. \
        Answers with all asset_ids and one contact sheet. Waits up to 45 seconds; what is not done by then is named by job_ids \
        to be given to `get_job`. Example: {\"prompts\":[\"a red potion\",\"a blue potion\"],\"width\":16,\"palette\":\"pico-8\"}";
    schema.insert("description".into(), json!(description));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("prompt");
        let prompts = json!({
            "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": MAX_PROMPTS,
            "description": "The subjects, one prompt for each sprite.",
        });
        properties.insert("prompts".into(), prompts);
    }
    schema.insert("required".into(), json!(["prompts"]));
    schema
}

async fn generate_sprite(call: Call, arguments: JsonObject) -> Response {
    let arguments = with_images(&call, SPRITE, arguments).await?;
    let arguments = GenerateSprite::parse(arguments).map_err(|error| wrong(SPRITE, error))?;
    let wanted = arguments.plan(SPRITE, &call)?;
    let onto = arguments.onto(&call.studio, &wanted).map_err(|fault| wrong(SPRITE, fault))?;
    draw(&call, wanted, onto).await
}

async fn generate_batch(call: Call, mut arguments: JsonObject) -> Response {
    let expected = format!("a list of 1 to {MAX_PROMPTS} texts");
    let prompts = match arguments.remove("prompts") {
        Some(Value::Array(prompts)) if (1..=MAX_PROMPTS).contains(&prompts.len()) => prompts,
        Some(Value::Array(prompts)) => {
            return Err(wrong(
                BATCH,
                Wrong::of("prompts", format!("has {}; expected {expected}", prompts.len())),
            ));
        }
        None | Some(Value::Null) => {
            return Err(wrong(BATCH, Wrong::of("prompts", format!("is missing; expected {expected}"))));
        }
        Some(other) => {
            let value = json::short(&other);
            return Err(wrong(BATCH, Wrong::of("prompts", format!("is {value}; expected {expected}"))));
        }
    };
    let arguments = with_images(&call, BATCH, arguments).await?;
    let (mut wanted, mut last) = (vec![], None);
    for (n, prompt) in prompts.into_iter().enumerate() {
        check_prompt(n, &prompt).map_err(|fault| wrong(BATCH, fault))?;
        let mut one = arguments.clone();
        one.insert("prompt".into(), prompt);
        let one = GenerateSprite::parse(one).map_err(|error| wrong(BATCH, error))?;
        wanted.extend(one.plan(BATCH, &call)?);
        last = Some(one);
    }
    // All go into one game.
    let onto = last.map_or(Ok(None), |one| one.onto(&call.studio, &wanted));
    draw(&call, wanted, onto.map_err(|fault| wrong(BATCH, fault))?).await
}

/// The arguments with the pixels of the images that they name: assets, files in the roots, or
/// bytes.
async fn with_images(
    call: &Call,
    tool: &'static str,
    mut arguments: JsonObject,
) -> Result<JsonObject, Fault> {
    if !["init_image", "mask", "control"].into_iter().any(|name| arguments.contains_key(name)) {
        return Ok(arguments);
    }
    let read = move |studio: &Studio, _: &Stop| {
        let mut refused = None;
        let answer = SpriteFields::read_images(&mut arguments, |path| {
            image_file(studio, path)
                .inspect_err(|error| refused = Some(error.clone()))
                .map_err(|e| one_line(&e))
        });
        match (answer, refused) {
            (Ok(()), _) => Ok(arguments),
            // A path that may not be read keeps its kind of error.
            (Err(error), refused) => Err(wrong(
                tool,
                match refused {
                    Some(refused) => Wrong { kind: refused.kind(), ..Wrong::from(error) },
                    None => Wrong::from(error),
                },
            )),
        }
    };
    blocking(&call.studio, &call.stop, Length::Long, read).await
}

/// The bytes of an image that a call names: an asset's, or those of a file in the roots.
fn image_file(studio: &Studio, path: &Path) -> Result<Vec<u8>, Error> {
    let library = studio.library();
    if let Some(id) = path.to_str().and_then(|text| text.parse().ok())
        && library.get(&id).is_ok()
    {
        return library.read_png(&id);
    }
    let file = studio.roots().open(path)?;
    read_opened(file, MAX_FILE_BYTES).map_err(|error| Error::no_file(path, error))
}

/// Checks one of many prompts under the name that it has in the list.
fn check_prompt(n: usize, prompt: &Value) -> Result<(), Wrong> {
    let fault = match prompt.as_str().map(|text| text.chars().count()) {
        None => format!("is {}; expected a text", json::short(prompt)),
        Some(chars) if chars > MAX_PROMPT_CHARS => {
            format!("has {chars} characters; expected at most {MAX_PROMPT_CHARS}")
        }
        Some(_) => return Ok(()),
    };
    Err(Wrong::of(format!("prompts[{n}]"), fault))
}

impl GenerateSprite {
    /// One sprite for each image of the series.
    ///
    /// # Errors
    /// The argument at fault, its value, and what would be right.
    fn plan(&self, tool: &str, call: &Call) -> Result<Vec<PlannedSprite>, Fault> {
        let fault = |error: FieldError| wrong(tool, error);
        let OwnArguments { model, style, name, .. } = &self.own;
        let studio = &call.studio;
        let model = studio.model(model.as_deref()).map_err(|error| wrong(tool, &error))?;
        let prompt = self.fields.request.prompt.clone();
        let name = match name {
            Some(name) => name.parse().map_err(|error: ValueError| wrong(tool, error))?,
            None => AssetName::from_prompt(&prompt),
        };
        // 32 bits: exact in every JSON reader.
        let seeds = self.fields.series.seeds(MAX_COUNT, || fastrand::u32(..).into()).map_err(fault)?;
        let notes = style.iter().map(|style| ("style".to_owned(), style.clone()));
        let notes: BTreeMap<_, _> = notes.chain([("prompt".into(), prompt)]).collect();
        let style = style.as_deref().and_then(styles::find).filter(|_| !model.draws_pixel_art);
        let submission = Submission {
            model: Some(model.name.clone()),
            client: call.client.clone(),
            ..self.in_words_of(style).submission(*seeds.start())
        };
        submission.resolve(&model.defaults).map_err(|error| wrong(tool, &error))?;
        let wanted = seeds.map(|seed| {
            let request = GenerateRequest { seed, ..submission.request.clone() };
            let submission = Submission { request, ..submission.clone() };
            PlannedSprite { name: name.clone(), submission, notes: notes.clone() }
        });
        Ok(wanted.collect())
    }

    /// The game that the pictures go into.
    fn onto(&self, studio: &Studio, wanted: &[PlannedSprite]) -> Result<Option<Onto>, Wrong> {
        match (&self.own.project, &self.own.category) {
            (Some(project), category) => Onto::new(studio, project, category.as_deref(), wanted).map(Some),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                let text = "`category` is for a game; `project` is missing, expected its folder";
                Err(Wrong { field: Some("project".into()), ..text.into() })
            }
        }
    }

    /// The fields with the words of a style.
    fn in_words_of(&self, style: Option<&Style>) -> SpriteFields {
        let mut fields = self.fields.clone();
        if let Some(style) = style {
            let request = &mut fields.request;
            request.prompt = format!("{}, {}", request.prompt, style.words);
            request.negative_prompt.get_or_insert_with(|| style.negative_prompt.clone());
        }
        fields
    }
}

impl OwnArguments {
    /// The size of the sprite in its own pixels, if the call names one.
    fn size(&self, size: Option<ImageSize>) -> Result<Option<ImageSize>, FieldError> {
        for (field, side) in [("width", self.width), ("height", self.height)] {
            if let Some(side) = side.filter(|side| !SIDES.contains(side)) {
                let text = format!("`{field}` is {side}; expected {} to {}", SIDES.start(), SIDES.end());
                return Err(FieldError::new(field, text));
            }
        }
        let (width, height) = (self.width.or(self.height), self.height.or(self.width));
        let sides = width.zip(height).map(|(width, height)| ImageSize { width, height });
        match (sides, size) {
            (Some(sides), Some(size)) if sides != size => Err(FieldError::new(
                "size",
                format!("`size` is {size}, and `width` and `height` are {sides}; expected one of both"),
            )),
            (sides, size) => Ok(sides.or(size)),
        }
    }
}

fn style_of(name: &str) -> Result<&'static Style, FieldError> {
    styles::find(name).ok_or_else(|| {
        let names: Vec<_> = styles::all().iter().map(|style| format!("`{}`", style.name)).collect();
        let text = format!("`style` is {}; expected one of {}", json::short(&json!(name)), names.join(", "));
        FieldError::new("style", text)
    })
}

/// Has all drawn, and waits as long as a client does. What takes longer goes on as a task, where
/// the client knows of tasks.
async fn draw(call: &Call, wanted: Vec<PlannedSprite>, onto: Option<Onto>) -> Response {
    // Being taken is part of the time that a client waits.
    let begun = Instant::now();
    let works = call.studio.submit(wanted, &call.stop).await?;
    let waiting: Vec<_> = works.iter().map(Work::wait).collect();
    let time = call.studio.wait().saturating_sub(begun.elapsed());
    match (wait(&call.listener, call.stop.set(), &works, time).await, &call.tasks) {
        (Ended::GivenUp, _) => {
            drop(waiting);
            call.studio.cancel_unless_wanted(&works);
            Err(call.stop.fault())
        }
        (Ended::TimeIsUp, Some(tasks)) => Ok(task(tasks, call.studio.clone(), works, waiting, onto)),
        _ => answer(&call.studio, &call.stop, &works, onto).await.map(Into::into),
    }
}

/// Waits on, beside the call, which is answered with the task.
fn task(
    tasks: &TaskManager,
    studio: Studio,
    works: Vec<Work>,
    waiting: Vec<Waiting>,
    onto: Option<Onto>,
) -> CallToolResponse {
    let options = TaskOptions::new()
        .with_ttl_ms(TASK_MS)
        .with_poll_interval_ms(TASK_POLL_MS)
        .with_status_message(stand(&works));
    let task = tasks.spawn(options, |context| {
        Box::pin(async move {
            let listener = Listener::Task(context.clone());
            let time = Duration::from_millis(TASK_MS);
            if wait(&listener, context.cancelled(), &works, time).await == Ended::GivenUp {
                drop(waiting);
                studio.cancel_unless_wanted(&works);
                return Err(TaskExit::Cancelled);
            }
            let stop = Stop { call: CancellationToken::new(), server: studio.stopping().clone() };
            Ok(answer(&studio, &stop, &works, onto).await.unwrap_or_else(Into::into))
        })
    });
    CallToolResponse::Task(CreateTaskResult::new(task))
}

/// The reason why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    TimeIsUp,
    GivenUp,
}

/// Waits for all, telling how far they are.
pub(super) async fn wait(
    listener: &Listener,
    given_up: impl Future<Output = ()>,
    works: &[Work],
    time: Duration,
) -> Ended {
    let all = futures::future::join_all(works.iter().map(Work::done));
    let time_is_up = sleep(time);
    let mut tick = interval(TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(all, given_up, time_is_up);
    let mut told = 0.0;
    loop {
        tokio::select! {
            biased;
            _ = &mut all => return Ended::Done,
            () = &mut given_up => return Ended::GivenUp,
            () = &mut time_is_up => return Ended::TimeIsUp,
            _ = tick.tick() => {
                let done: f64 = works.iter().map(percent).sum();
                // It must rise; and there is news only if it did.
                if done > told {
                    told = done;
                    listener.tell(done, works.len() as f64 * 100.0, stand(works)).await;
                }
            }
        }
    }
}

/// The share of an image's steps that are done, in percent.
fn percent(work: &Work) -> f64 {
    match work.job.latest() {
        Some(JobEvent::Step { n, of, .. }) => 100.0 * n as f64 / of.max(1) as f64,
        Some(event) if event.is_end() => 100.0,
        _ => 0.0,
    }
}

/// A few words on the state of the work.
fn stand(works: &[Work]) -> String {
    let done = works.iter().filter(|work| work.ended().is_some()).count();
    let now = works.iter().find(|work| work.ended().is_none()).and_then(|work| work.job.latest());
    let now = match now {
        Some(JobEvent::Step { n, of, .. }) => format!("step {n} of {of}"),
        Some(JobEvent::Loading { model, .. }) => format!("loading {model}"),
        Some(JobEvent::Queued { position, .. }) => format!("number {position} in the queue"),
        Some(JobEvent::Started { .. }) => "reading the prompt".into(),
        _ => "finishing".into(),
    };
    if works.len() > 1 { format!("{done} of {} done, {now}", works.len()) } else { now }
}

/// The results so far. Sprites for a game are deployed when all jobs have ended.
pub(super) async fn answer(studio: &Studio, stop: &Stop, works: &[Work], onto: Option<Onto>) -> Answer {
    let works = works.to_vec();
    let length = if onto.is_some() { Length::Waits } else { Length::Short };
    blocking(studio, stop, length, move |studio, stop| told(studio, stop, &works, onto)).await
}

fn told(studio: &Studio, stop: &Stop, works: &[Work], onto: Option<Onto>) -> Answer {
    let library = studio.library();
    let (mut assets, mut sprites, mut failed, mut running) = (vec![], vec![], vec![], vec![]);
    let mut first_fault = None;
    let mut pngs = vec![];
    let mut words = None;
    for work in works {
        stop.check()?;
        let job_id = work.job.id();
        let mut png = None;
        match work.ended() {
            None => running.push(json!({ "job_id": job_id, "status": stand(std::slice::from_ref(work)) })),
            Some(Err(error)) => {
                let fault = Fault::from(error);
                failed.push(match failed.len() < MAX_ERRORS {
                    true => fault.of_job(job_id),
                    false => json!({ "job_id": job_id }),
                });
                first_fault = first_fault.or(Some(fault));
            }
            Some(Ok(())) => {
                let asset = library.get(&work.asset)?;
                if sprites.len() < MOST_SPRITES {
                    sprites.push(of_library(studio, stop, &work.asset)?.0);
                }
                if onto.is_some() {
                    png = Some(library.read_png(&work.asset)?);
                }
                assets.push(facts(library, &asset));
                if let Some(Ok(finished)) = work.job.result() {
                    words = words.or(finished.dropped_words.clone());
                }
            }
        }
        pngs.push(png);
    }
    if let ([], [], Some(fault)) = (&assets[..], &running[..], &first_fault) {
        return Err(fault.clone());
    }
    let count = assets.len();
    let mut all = match (assets.pop(), works.len()) {
        (Some(one), 1) => one,
        (last, _) => {
            assets.extend(last);
            Map::from_iter([("assets".to_owned(), json!(briefly(assets)))])
        }
    };
    if count > sprites.len() {
        all.insert("preview".into(), json!(format!("shows the first {} of {count}", sprites.len())));
    }
    let next = match (running.is_empty(), &onto) {
        (true, None) => "Look at the image. The file is at `path`; `list_assets` finds it again.",
        (true, Some(_)) => "Look at the image; `game_screenshot` shows the game.",
        (false, None) => "Call `get_job` with each job_id to wait for it, or `cancel_job` to stop it.",
        (false, Some(_)) => {
            "Nothing is in the game yet. Call `get_job` with each job_id to wait for it, then `deploy_to_bevy` with the asset_ids."
        }
    };
    if let Some(onto) = onto.filter(|_| running.is_empty()) {
        match onto.deploy(studio, pngs) {
            Ok(deployment) => all.insert("deployed".into(), without_nulls(json!(deployment))),
            // The pictures are there all the same.
            Err(error) => all.insert("deploy_error".into(), json!(Fault::from(error).text)),
        };
    }
    for (name, list) in [("failed", failed), ("running", running)] {
        if !list.is_empty() {
            all.insert(name.into(), json!(list));
        }
    }
    if let Some(words) = words {
        all.insert("dropped_words".into(), json!(words));
    }
    all.insert("next".into(), json!(next));
    Ok(match &sprites[..] {
        [] => text(all),
        [one] => with_picture(all, |side| preview(one, side)),
        many => with_picture(all, |side| contact_sheet(many, side)),
    })
}

/// The facts of each asset that fit into the answer: all of them, or its place and seed, or its id.
fn briefly(mut assets: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    for kept in [&["asset_id", "path", "seed"][..], &["asset_id"]] {
        if bytes(&assets) > MAX_ASSETS_BYTES {
            assets.iter_mut().for_each(|asset| asset.retain(|name, _| kept.contains(&name.as_str())));
        }
    }
    assets
}
