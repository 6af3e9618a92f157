//! The time of calls of a library of many assets: `cargo bench --bench library -- [ASSETS]`.

use std::fs;
use std::time::{Duration, Instant};

use dgx_pixels_core::library::{AssetId, Library, Query, Quota};
use dgx_pixels_core::picture_file::{sprite_png, write_sprite};
use dgx_pixels_core::pixel::{Certificate, Wrap};
use image::{Rgba, RgbaImage};

const RUNS: usize = 1000;

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    let root = tempfile::tempdir().expect("a folder for a library");
    let first = Library::open(root.path(), Quota::default()).expect("an empty folder is a library");
    let reserved = first.reserve(&"asset".parse().expect("it is a name")).expect("it is free");
    let sprite = RgbaImage::from_pixel(16, 8, Rgba([200, 40, 0, 255]));
    let png = sprite_png(&sprite, None).expect("it is encoded");
    let certificate = Certificate::of(&sprite, None, Wrap::default());
    write_sprite(&reserved.png(), &png, &certificate, false).expect("it is written");
    let asset = first.add(&reserved.keep(), None, Default::default()).expect("it is added");
    drop(first);
    // Assets are added with several syncs each; these are copies of one, whose image is linked.
    let picture = root.path().join("asset/asset.png");
    for n in 1..count {
        let id = format!("asset-{n}");
        let folder = root.path().join(&id);
        fs::create_dir(&folder).expect("a folder is made");
        fs::hard_link(&picture, folder.join(format!("{id}.png"))).expect("an image is linked");
        let record = asset.to_json().replace("\"asset\"", &format!("\"{id}\""));
        let record = record.replace("\"asset.png\"", &format!("\"{id}.png\""));
        fs::write(folder.join(format!("{id}.asset.json")), record).expect("a record is written");
    }

    let began = Instant::now();
    let library = Library::open(root.path(), Quota::default()).expect("it is opened again");
    println!("open: {:?}", began.elapsed());
    assert_eq!(library.usage().expect("it is read").assets, count);

    let id = |n: usize| -> AssetId { format!("asset-{}", 1 + n % (count - 1)).parse().expect("it is an id") };
    measure("get", |n| drop(library.get(&id(n)).expect("it is there")));
    let mut after = None;
    measure("list of 50", |_| {
        let page = library.list(&Query { after: after.take(), ..Default::default() }).expect("it is listed");
        after = page.next;
    });
    let nowhere = Query { text: Some("no such word".into()), ..Default::default() };
    measure("list of a word that is nowhere", |_| drop(library.list(&nowhere).expect("it is listed")));
    let other = root.path().join("not-an-asset");
    measure("looking around after a change", |n| {
        match n % 2 {
            0 => fs::create_dir(&other).expect("a folder is made"),
            _ => fs::remove_dir(&other).expect("a folder is removed"),
        }
        library.refresh().expect("it is read");
    });
}

fn measure(what: &str, mut work: impl FnMut(usize)) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|n| {
            let began = Instant::now();
            work(n);
            began.elapsed()
        })
        .collect();
    times.sort();
    let [median, p99] = [RUNS / 2, RUNS * 99 / 100].map(|place| times[place]);
    println!("{what}: median {median:?}, p99 {p99:?}, longest {:?}", times[RUNS - 1]);
}
