//! Animations by the durations of their frames.

use std::sync::Arc;

use bevy::prelude::*;

use crate::live::{Clip, LiveSprite};

/// An animation that does not repeat has shown its last frame for its time.
///
/// It is a message of Bevy: a system reads it with `MessageReader<AnimationFinished>`, for example
/// to despawn an explosion. An animation that repeats sends none.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub struct AnimationFinished {
    /// The entity that shows the animation.
    pub entity: Entity,
    /// The name of the animation.
    pub animation: String,
}

/// The animation that an entity shows, and the time of its next frame.
#[derive(Component, Debug)]
pub(crate) struct Playback {
    /// The time of the next frame, in seconds of `Time`; never, for a still image. It is the first
    /// field because most looks need nothing else.
    next_at: f64,
    pub(crate) sprite: Option<Arc<LiveSprite>>,
    clip: Option<Arc<Clip>>,
    step: usize,
}

impl Default for Playback {
    fn default() -> Self {
        Playback { next_at: f64::INFINITY, sprite: None, clip: None, step: 0 }
    }
}

/// The time, in seconds of `Time`, at which the first of all entities shows its next frame. Until
/// then no entity has to be looked at.
#[derive(Resource, Debug)]
pub(crate) struct Soonest(f64);

impl Default for Soonest {
    fn default() -> Self {
        Soonest(f64::INFINITY)
    }
}

impl Soonest {
    pub(crate) fn note(&mut self, playback: &Playback) {
        self.0 = self.0.min(playback.next_at);
    }
}

impl Playback {
    pub(crate) fn stop(&mut self) {
        (self.clip, self.step, self.next_at) = (None, 0, f64::INFINITY);
    }

    /// Plays `clip` from its first frame, or goes on from the current frame if it is the same
    /// animation.
    pub(crate) fn play(&mut self, clip: &Arc<Clip>, now: f64, from_start: bool) {
        let is_same = self.clip.as_ref().is_some_and(|old| old.name == clip.name);
        let goes_on = is_same && !from_start && self.step < clip.steps.len();
        if !goes_on {
            self.step = 0;
        }
        let moves = clip.steps.len() > 1 || !clip.repeat;
        if !moves {
            self.next_at = f64::INFINITY;
        } else if !goes_on || self.next_at.is_infinite() {
            self.next_at = now + clip.steps[self.step].1;
        }
        self.clip = Some(Arc::clone(clip));
    }

    /// The index of the current frame among the sprite's frames.
    pub(crate) fn frame(&self) -> usize {
        self.clip.as_ref().map_or(0, |clip| clip.steps[self.step].0)
    }
}

/// Shows the frames whose time has come. After a pause of the game's frames it shows the one that
/// is due, and none in a hurry.
pub(crate) fn advance(
    time: Res<Time>,
    mut soonest: ResMut<Soonest>,
    mut entities: Query<(Entity, &mut Playback, &mut Sprite)>,
    mut finished: MessageWriter<AnimationFinished>,
) {
    let now = time.elapsed_secs_f64();
    if now < soonest.0 {
        return;
    }
    *soonest = Soonest::default();
    for (entity, mut playback, mut sprite) in &mut entities {
        if playback.next_at > now {
            soonest.note(&playback);
            continue;
        }
        let playback = &mut *playback;
        let Some(clip) = &playback.clip else { continue };
        let whole: f64 = clip.steps.iter().map(|(_, seconds)| seconds).sum();
        if clip.repeat {
            // Whole rounds that were missed.
            playback.next_at += ((now - playback.next_at) / whole).floor() * whole;
        }
        while playback.next_at <= now {
            if playback.step + 1 < clip.steps.len() {
                playback.step += 1;
            } else if clip.repeat {
                playback.step = 0;
            } else {
                playback.next_at = f64::INFINITY;
                finished.write(AnimationFinished { entity, animation: clip.name.clone() });
                break;
            }
            playback.next_at += clip.steps[playback.step].1;
        }
        soonest.note(playback);
        let frame = clip.steps[playback.step].0;
        if let Some(atlas) = &mut sprite.texture_atlas {
            atlas.index = frame;
        }
    }
}
