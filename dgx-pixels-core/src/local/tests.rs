use super::*;
use crate::device::Device;
use crate::submission::Submission;

fn names(models: &LocalModels) -> Vec<&str> {
    models.all().iter().map(|model| model.name.as_str()).collect()
}

/// An engine that leaves the user's cache alone, on the CPU.
fn start(models: LocalModels, folder: &std::path::Path) -> Engine {
    let options = Options { device: Device::Cpu, ..Default::default() };
    let costs = Some(folder.join("costs.json"));
    models.with(options).unwrap().start(EngineConfig { costs, ..Default::default() }).unwrap()
}

#[test]
fn the_sketch_needs_no_place_and_no_files() {
    let models = LocalModels::open_in(&[], Some(SKETCH)).unwrap();
    assert_eq!((names(&models), models.notes()), (vec![SKETCH], &[][..]));
    let sketch = models.default_model();
    assert!(sketch.is_sketch() && sketch.draws_pixel_art());
    assert_eq!(models.hash(SKETCH).unwrap(), None);

    let info = models.describe(None, "cpu").unwrap();
    assert_eq!((info.name, info.defaults), (sketch.name.clone(), sketch.defaults.clone()));
}

#[test]
fn a_name_that_is_not_served_is_answered_with_those_that_are() {
    let models = LocalModels::open_in(&[], Some(SKETCH)).unwrap();
    let expected = "`model` is `frog`; there are `sketch`";
    let faults = [
        models.find(Some("frog")).err(),
        models.describe(Some("frog"), "cpu").err(),
        models.load("frog", "cpu", &mut |_| ()).err(),
        models.hash("frog").err(),
    ];
    for fault in faults {
        assert_eq!(fault.unwrap().to_string(), expected);
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = start(models, folder.path());
    let frog = Submission { model: Some("frog".into()), ..Submission::of("a frog") };
    assert_eq!(engine.submit(frog).err().unwrap().to_string(), expected);
    let job = engine.submit(Submission::of("a frog")).unwrap();
    assert_eq!(job.wait().unwrap().made.model, SKETCH);
}

#[test]
fn latents_are_refused_by_a_model_that_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let engine = start(LocalModels::open_in(&[], Some(SKETCH)).unwrap(), folder.path());
    let job = engine.submit(Submission { latents: true, ..Submission::of("a frog") }).unwrap();
    let error = job.wait().err().unwrap();
    let expected = "`latents` is `true`; expected `false`, as this model has no latents";
    assert_eq!((error.to_string().as_str(), error.field()), (expected, Some("latents")));
    // Nothing of the engine's is lost by it.
    assert!(engine.submit(Submission::of("a frog")).unwrap().wait().unwrap().latents.is_none());
}

#[test]
fn all_models_are_served_with_the_default_first_and_the_sketch_last() {
    let folder = tempfile::tempdir().unwrap();
    let [own, here] = ["own", "here"].map(|name| folder.path().join(name));
    search::tests::add(&own, "frog");
    let default = search::tests::add(&own, "sprite-xl");
    std::fs::create_dir_all(own.join("broken")).unwrap();
    let shadowed = search::tests::add(&here, "sprite-xl");
    search::tests::add(&here, "toad");
    let places = [Place::Plain(own), Place::Here(here)];

    let all = LocalModels::open_in(&places, None).unwrap();
    assert_eq!(names(&all), ["sprite-xl", "frog", "toad", SKETCH]);
    assert_eq!(all.default_model().path.as_ref(), Some(&default));
    let note = Note::Shadowed { name: "sprite-xl".into(), by: default, path: shadowed.clone() };
    assert_eq!(all.notes(), [note]);

    // A model that is named is served alone.
    let alone = LocalModels::open_in(&places, Some("toad")).unwrap();
    assert_eq!((names(&alone), alone.notes()), (vec!["toad"], &[][..]));
    let by_path = LocalModels::open_in(&places, shadowed.to_str()).unwrap();
    assert_eq!(by_path.default_model().path, Some(shadowed));
}

#[test]
fn a_folder_called_sketch_is_used_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = search::tests::add(folder.path(), SKETCH);
    search::tests::add(folder.path(), "sprite-xl");
    let places = [Place::Plain(folder.path().into())];
    let all = LocalModels::open_in(&places, None).unwrap();
    assert_eq!(names(&all), ["sprite-xl", SKETCH]);
    assert!(all.find(Some(SKETCH)).unwrap().is_sketch());
    assert!(LocalModels::open_in(&places, Some(SKETCH)).unwrap().default_model().is_sketch());
    let by_path = LocalModels::open_in(&places, path.to_str()).unwrap();
    assert_eq!(by_path.default_model().path, Some(path));
    assert!(by_path.hash(SKETCH).unwrap().is_some());
}

/// `make test-core` leaves tests of this beginning out, as it builds no object.
#[test]
fn with_the_object_a_model_and_the_sketch_draw_in_one_engine() {
    let folder = tempfile::tempdir().unwrap();
    search::tests::add(folder.path(), "tiny");
    let places = [Place::Plain(folder.path().into())];
    let models = LocalModels::open_in(&places, None).unwrap();
    let hash = models.hash("tiny").unwrap();
    let engine = start(models, folder.path());
    let wanted = ["tiny", SKETCH, "tiny"].map(|model| {
        let mut submission = Submission { model: Some(model.into()), ..Submission::of("a frog") };
        submission.request.steps = Some(2);
        submission
    });
    let jobs: Vec<_> = engine.submit_all(wanted).into_iter().map(Result::unwrap).collect();
    let drawn: Vec<_> = jobs.iter().map(|job| job.wait().unwrap().made.clone()).collect();
    let facts = |i: usize| (drawn[i].model.as_str(), drawn[i].dtype.as_str(), drawn[i].model_hash.clone());
    assert_eq!(facts(0), ("tiny", "f32", hash.clone()));
    assert_eq!(facts(1), (SKETCH, "none", None));
    assert_eq!(facts(2), ("tiny", "f32", hash));
}
