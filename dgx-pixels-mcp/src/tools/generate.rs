//! `generate_sprite` and `generate_batch`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::library::AssetName;
use dgx_pixels_core::pixel::{GridChoice, MaxColors, Palette, PixelOptions, Transparent, Wrap};
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::{Error, GenerateRequest, ImageSize, Submission, canvas};
use rmcp::model::{CallToolResponse, CreateTaskResult, JsonObject, ToolAnnotations};
use rmcp::task_manager::{TaskExit, TaskManager, TaskOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::game::Onto;
use super::{Answer, Call, Group, Kind, Listener, Response, blocking, wrong};
use crate::answer::{Fault, bytes, facts, text, with_picture, without_nulls};
use crate::arguments;
use crate::pictures::of_library;
use crate::pixel_work::{Length, Stop};
use crate::preview::{MOST_SPRITES, contact_sheet, preview};
use crate::studio::{ModelCard, PlannedSprite, Studio, Waiting, Work};
use crate::styles::{self, Style};

const SPRITE: &str = "generate_sprite";
const BATCH: &str = "generate_batch";
/// How long a task may take, and is remembered after. Its jobs are not bound by it.
const TASK_MS: u64 = 12 * 60 * 60 * 1000;
/// How often a client should ask for a task.
const TASK_POLL_MS: u64 = 1000;
const TELL_EVERY: Duration = Duration::from_millis(100);
const MAX_COUNT: u32 = 16;
const MAX_PROMPTS: usize = 64;
/// Models read some 300 characters of it.
const MAX_PROMPT_CHARS: usize = 2000;
const SIDES: RangeInclusive<u32> = 8..=256;
/// What puts a sprite into a game.
const GAME_ARGUMENTS: &[&str] = &["project", "category"];
/// The most bytes of what is told of all assets of a call; where it would be more, less is told of each.
const MAX_ASSETS_BYTES: usize = 300 << 10;
/// The most jobs that failed of which the errors are told.
const MAX_ERRORS: usize = 50;

pub(super) fn tools() -> Vec<Kind> {
    // With `project`, a sprite of the same name is replaced in the game.
    let draws =
        || ToolAnnotations::new().read_only(false).destructive(true).idempotent(false).open_world(false);
    let sprite = Kind::new(Group::Generate, SPRITE, "Generate a sprite", draws(), generate_sprite);
    let run: super::Run = Arc::new(|call, arguments| Box::pin(generate_batch(call, arguments)));
    let batch = Kind::raw(Group::Generate, BATCH, "Generate many sprites", draws(), batch_schema(), run);
    [sprite, batch].map(|kind| kind.with_game_arguments(GAME_ARGUMENTS)).into()
}

/// Draws pixel art from a prompt and saves it as a PNG with a true pixel grid, a small palette and alpha that is 0 or 255.
/// Answers with the file's absolute path, its asset_id, and a preview. Waits up to 45 seconds; if the picture is not done by
/// then, the answer is a job_id to be given to `get_job`. Example: {"prompt":"a green slime","width":32,"height":32,"max_colors":8}
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct GenerateSprite {
    /// What to draw, in English, one thing and its colours: "a green slime". Words past the model's 77 tokens are dropped, and named in
    /// the answer.
    prompt: String,
    /// What to keep away from.
    negative_prompt: Option<String>,
    /// A name from `list_models`. Default: the server's own choice.
    model: Option<String>,
    /// A style preset from `list_models`, as "8bit"; what is asked for here besides goes before it.
    style: Option<String>,
    /// Width of the sprite in its own pixels. Default: the model's, or `height`.
    #[schemars(range(min = 8, max = 256))]
    width: Option<u32>,
    /// Height of the sprite in its own pixels. Default: the model's, or `width`.
    #[schemars(range(min = 8, max = 256))]
    height: Option<u32>,
    /// Denoising steps; more take longer. Default: the model's own.
    #[schemars(range(min = 1, max = 1000))]
    steps: Option<usize>,
    /// How strongly the prompt steers. Default: the model's own.
    #[schemars(range(min = 0, max = 100))]
    guidance_scale: Option<f64>,
    /// The noise schedule, from `list_models`. Default: the model's own.
    scheduler: Option<String>,
    /// The same seed with the same request gives the same picture. Default: drawn at random, and told.
    seed: Option<u64>,
    /// How many pictures, with seeds from `seed` upwards. Default 1.
    #[schemars(range(min = 1, max = 16))]
    count: Option<u32>,
    /// A palette's name from `list_models`, or colours as "#1a1c2c,#5d275d": every colour of the sprite is one of them.
    palette: Option<String>,
    /// Colours at most. Default: as many as the picture needs.
    #[schemars(range(min = 1, max = 256))]
    max_colors: Option<u32>,
    /// Whether a plain background is cut out. Default true, and false where the sprite tiles.
    transparent: Option<bool>,
    /// The left edge meets the right one, as in a texture.
    tile_x: Option<bool>,
    /// The top edge meets the bottom one.
    tile_y: Option<bool>,
    /// The asset's name, of a-z, 0-9, `_` and `-`, at most 64 characters. One that is taken gets a number: "slime-2". Default: from the
    /// prompt.
    name: Option<String>,
    /// Also puts the sprite into the Bevy game in this folder, as `deploy_to_bevy` does; it takes `category`, or a `name` as "enemy_slime".
    project: Option<PathBuf>,
    /// What the game uses it for, as "enemy"; what the game calls it begins with it.
    category: Option<String>,
}

/// The schema of [`GenerateSprite`] with many prompts in place of one.
fn batch_schema() -> JsonObject {
    let mut schema = (*arguments::schema::<GenerateSprite>()).clone();
    let description = "Draws one sprite (or `count`) for each of several prompts, all in one look, and saves each as a PNG. \
        Answers with all asset_ids and one contact sheet. Waits up to 45 seconds; what is not done by then is named by job_ids \
        to be given to `get_job`. Example: {\"prompts\":[\"a red potion\",\"a blue potion\"],\"width\":16,\"palette\":\"pico-8\"}";
    schema.insert("description".into(), json!(description));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("prompt");
        let prompts = json!({
            "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": MAX_PROMPTS,
            "description": "What to draw, one prompt for each sprite.",
        });
        properties.insert("prompts".into(), prompts);
    }
    schema.insert("required".into(), json!(["prompts"]));
    schema
}

async fn generate_sprite(call: Call, arguments: GenerateSprite) -> Response {
    let fault = |fault: String| wrong(SPRITE, &fault);
    let wanted = arguments.plan(&call).map_err(fault)?;
    let onto = arguments.onto(&call.studio, &wanted).map_err(fault)?;
    draw(&call, wanted, onto).await
}

async fn generate_batch(call: Call, mut arguments: JsonObject) -> Response {
    let expected = format!("a list of 1 to {MAX_PROMPTS} texts");
    let prompts = match arguments.remove("prompts") {
        Some(Value::Array(prompts)) if (1..=MAX_PROMPTS).contains(&prompts.len()) => prompts,
        Some(Value::Array(prompts)) => {
            return Err(wrong(BATCH, &format!("`prompts` has {}; expected {expected}", prompts.len())));
        }
        None | Some(Value::Null) => {
            return Err(wrong(BATCH, &format!("`prompts` is missing; expected {expected}")));
        }
        Some(other) => {
            let value = arguments::short(&other);
            return Err(wrong(BATCH, &format!("`prompts` is {value}; expected {expected}")));
        }
    };
    let schema = arguments::schema::<GenerateSprite>();
    let (mut wanted, mut last) = (vec![], None);
    for (n, prompt) in prompts.into_iter().enumerate() {
        let mut one = arguments.clone();
        one.insert("prompt".into(), prompt);
        let fault = |fault: String| wrong(BATCH, &fault.replace("`prompt`", &format!("`prompts[{n}]`")));
        let one: GenerateSprite = arguments::parse(&schema, Some(one)).map_err(fault)?;
        wanted.extend(one.plan(&call).map_err(fault)?);
        last = Some(one);
    }
    // All go into one game.
    let onto = last.map_or(Ok(None), |one| one.onto(&call.studio, &wanted));
    draw(&call, wanted, onto.map_err(|fault| wrong(BATCH, &fault))?).await
}

impl GenerateSprite {
    /// What is asked for, picture by picture.
    ///
    /// # Errors
    /// Which argument is wrong, its value, and what would be right.
    fn plan(&self, call: &Call) -> Result<Vec<PlannedSprite>, String> {
        let studio = &call.studio;
        for (field, text) in
            [("prompt", Some(&self.prompt)), ("negative_prompt", self.negative_prompt.as_ref())]
        {
            let chars = text.map_or(0, |text| text.chars().count());
            if chars > MAX_PROMPT_CHARS {
                return Err(format!("`{field}` has {chars} characters; expected at most {MAX_PROMPT_CHARS}"));
            }
        }
        let model = studio.model(self.model.as_deref()).map_err(|error| error.to_string())?;
        let style = self.style.as_deref().map(style_of).transpose()?;
        let size = self.size(model)?;
        let pixel = self.pixel(style, size)?;
        let request = self.request(model, style, size)?;
        request.validate().map_err(|error| error.to_string())?;
        let name = match &self.name {
            Some(name) => name.parse().map_err(|error: Error| error.to_string())?,
            None => AssetName::from_prompt(&self.prompt),
        };
        let count = self.count.unwrap_or(1);
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(format!("`count` is {count}; expected 1 to {MAX_COUNT}"));
        }
        // 32 bits: exact in every JSON reader.
        let first = self.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
        let Some(end) = first.checked_add(count.into()) else {
            return Err(format!("`seed` is {first}; expected at most {}", u64::MAX - u64::from(count)));
        };
        let style = self.style.clone().map(|style| ("style".to_owned(), style));
        let notes: BTreeMap<_, _> =
            style.into_iter().chain([("prompt".into(), self.prompt.clone())]).collect();
        let wanted = (first..end).map(|seed| {
            let request = GenerateRequest { seed, ..request.clone() };
            let (pixel, model) = (Some(pixel.clone()), Some(model.name.clone()));
            let submission = Submission { pixel, model, client: call.client.clone(), ..request.into() };
            PlannedSprite { name: name.clone(), submission, notes: notes.clone() }
        });
        Ok(wanted.collect())
    }

    /// The game that the pictures go into.
    fn onto(&self, studio: &Studio, wanted: &[PlannedSprite]) -> Result<Option<Onto>, String> {
        match (&self.project, &self.category) {
            (Some(project), category) => Onto::new(studio, project, category.as_deref(), wanted).map(Some),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err("`category` is for a game; `project` is missing, expected its folder".into())
            }
        }
    }

    /// Of the sprite, in its own pixels.
    fn size(&self, model: &ModelCard) -> Result<ImageSize, String> {
        for (field, side) in [("width", self.width), ("height", self.height)] {
            if let Some(side) = side.filter(|side| !SIDES.contains(side)) {
                return Err(format!("`{field}` is {side}; expected {} to {}", SIDES.start(), SIDES.end()));
            }
        }
        Ok(ImageSize {
            width: self.width.or(self.height).unwrap_or(model.width),
            height: self.height.or(self.width).unwrap_or(model.height),
        })
    }

    fn request(
        &self,
        model: &ModelCard,
        style: Option<&Style>,
        size: ImageSize,
    ) -> Result<GenerateRequest, String> {
        let words = style.filter(|_| !model.draws_pixel_art);
        let prompt = match words {
            Some(style) => format!("{}, {}", self.prompt, style.words),
            None => self.prompt.clone(),
        };
        let negative_prompt = words.map(|style| style.negative_prompt.clone());
        Ok(GenerateRequest {
            prompt,
            negative_prompt: self.negative_prompt.clone().or(negative_prompt),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            scheduler: self.scheduler.as_deref().map(scheduler_of).transpose()?,
            size: Some(canvas::for_sprite(model.native_size, size)),
            ..Default::default()
        })
    }

    fn pixel(&self, style: Option<&Style>, size: ImageSize) -> Result<PixelOptions, String> {
        let flag = |asked: Option<bool>, of: fn(&Style) -> Option<bool>| asked.or(style.and_then(of));
        let wrap = Wrap {
            x: flag(self.tile_x, |style| style.tile_x).unwrap_or(false),
            y: flag(self.tile_y, |style| style.tile_y).unwrap_or(false),
        };
        let cut_out = flag(self.transparent, |style| style.transparent).unwrap_or(!wrap.x && !wrap.y);
        let palette = self.palette.as_deref().or(style.and_then(|style| style.palette.as_deref()));
        let max_colors = self.max_colors.or(style.and_then(|style| style.max_colors));
        let outline = style.and_then(|style| style.outline.as_deref());
        Ok(PixelOptions {
            grid: GridChoice::Cells(size),
            size: Some(size),
            max_colors: max_colors.map_or(Ok(MaxColors::Elbow), at_most)?,
            palette: palette.map(palette_of).transpose()?,
            transparent: if cut_out { Transparent::Auto } else { Transparent::Off },
            outline: outline
                .map(str::parse)
                .transpose()
                .map_err(|error| format!("{error}"))?
                .unwrap_or_default(),
            wrap,
            ..Default::default()
        })
    }
}

fn style_of(name: &str) -> Result<&'static Style, String> {
    styles::find(name).ok_or_else(|| {
        let names: Vec<_> = styles::all().iter().map(|style| format!("`{}`", style.name)).collect();
        format!("`style` is {}; expected one of {}", arguments::short(&json!(name)), names.join(", "))
    })
}

fn scheduler_of(name: &str) -> Result<SchedulerName, String> {
    name.parse().map_err(|_| {
        let names: Vec<_> = SchedulerName::ALL.iter().map(|name| format!("`{name}`")).collect();
        format!("`scheduler` is {}; expected one of {}", arguments::short(&json!(name)), names.join(", "))
    })
}

/// A name or colours; never a file, which would be one that the client may not read.
pub(super) fn palette_of(text: &str) -> Result<Palette, String> {
    if Palette::names().any(|name| name == text) || text.trim_start().starts_with('#') {
        return Palette::load(text).map_err(|error| error.to_string());
    }
    let names: Vec<_> = Palette::names().collect();
    let given = arguments::short(&json!(text));
    Err(format!(
        "`palette` is {given}; expected colours as `#1a1c2c,#5d275d`, or one of {}",
        names.join(", ")
    ))
}

pub(super) fn at_most(colors: u32) -> Result<MaxColors, String> {
    let most = u16::try_from(colors).ok().filter(|colors| (1..=256).contains(colors));
    most.map(MaxColors::AtMost).ok_or_else(|| format!("`max_colors` is {colors}; expected 1 to 256"))
}

/// Has all drawn, and waits as long as a client does. What takes longer goes on as a task, where the client knows of tasks.
async fn draw(call: &Call, wanted: Vec<PlannedSprite>, onto: Option<Onto>) -> Response {
    // Being taken is part of the time that a client waits.
    let begun = Instant::now();
    let works = call.studio.submit(wanted).await?;
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

/// Why waiting ended.
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

/// Of the picture's steps.
fn percent(work: &Work) -> f64 {
    match work.job.latest() {
        Some(JobEvent::Step { n, of, .. }) => 100.0 * n as f64 / of.max(1) as f64,
        Some(event) if event.is_end() => 100.0,
        _ => 0.0,
    }
}

/// In a few words where the work stands.
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

/// What came of it so far. What is to go into a game goes there when all have ended.
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
        (true, None) => "Look at the picture. The file is at `path`; `list_assets` finds it again.",
        (true, Some(_)) => "Look at the picture; `game_screenshot` shows the game.",
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

/// As much of each asset as there is room for: all facts, or where it is and its seed, or its id.
fn briefly(mut assets: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    for kept in [&["asset_id", "path", "seed"][..], &["asset_id"]] {
        if bytes(&assets) > MAX_ASSETS_BYTES {
            assets.iter_mut().for_each(|asset| asset.retain(|name, _| kept.contains(&name.as_str())));
        }
    }
    assets
}
