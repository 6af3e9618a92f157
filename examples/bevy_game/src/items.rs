//! Coins are collected, and shown in the top row; the potion makes quick for a while.

use bevy::prelude::*;
use dgx_pixels_bevy::GameSprite;

use crate::map::{self, TILE};
use crate::player::Hero;

/// Closer than this is taken.
const REACH: f32 = 18.0;
const QUICK_SECONDS: f32 = 6.0;

#[derive(Component, Reflect)]
#[reflect(Component)]
pub(crate) struct Coin {
    pub(crate) taken: bool,
    /// Where it lies on the map.
    place: Vec2,
}

#[derive(Component)]
struct Potion;

pub(crate) fn plugin(app: &mut App) {
    app.register_type::<Coin>()
        .add_systems(Startup, spawn)
        .add_systems(Update, (take_coins, show_coins, drink).chain());
}

fn spawn(mut commands: Commands) {
    for place in map::places(b'o') {
        let coin = Coin { taken: false, place };
        commands.spawn((Name::new("coin"), coin, GameSprite::new("item_coin"), Transform::default()));
    }
    for place in map::places(b'p') {
        let place = Transform::from_translation(place.extend(2.0));
        commands.spawn((Name::new("potion"), Potion, GameSprite::new("item_potion"), place));
    }
}

fn take_coins(heroes: Query<&Transform, With<Hero>>, mut coins: Query<&mut Coin>) {
    let Ok(hero) = heroes.single() else { return };
    for mut coin in &mut coins {
        if !coin.taken && coin.place.distance(hero.translation.truncate()) < REACH {
            coin.taken = true;
        }
    }
    if coins.iter().all(|coin| coin.taken) {
        info!("all coins are yours; here they are again");
        for mut coin in &mut coins {
            coin.taken = false;
        }
    }
}

/// Those that were taken stand in the top row.
fn show_coins(mut coins: Query<(Ref<Coin>, &mut Transform)>) {
    if !coins.iter().any(|(coin, _)| coin.is_changed()) {
        return;
    }
    let mut taken = 0;
    for (coin, mut place) in &mut coins {
        place.translation = match coin.taken {
            true => map::middle(1 + taken, 0).extend(5.0),
            false => coin.place.extend(2.0),
        };
        taken += usize::from(coin.taken);
    }
}

fn drink(
    mut commands: Commands,
    time: Res<Time>,
    mut heroes: Query<(&mut Hero, &Transform)>,
    potions: Query<(Entity, &Transform), With<Potion>>,
) {
    for (mut hero, place) in &mut heroes {
        for (potion, there) in &potions {
            if there.translation.distance(place.translation) < TILE as f32 / 2.0 {
                hero.quick_until = time.elapsed_secs() + QUICK_SECONDS;
                commands.entity(potion).despawn();
            }
        }
    }
}
