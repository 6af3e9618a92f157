//! The files of a repository that a model needs.

use dgx_pixels_core::model::Component;

/// The most bytes of a file's path.
const MAX_PATH: usize = 512;
const PICKLE: &str = "is a pickle, which can run any code when it is opened";

/// Chooses the files to fetch from the `files` of a repository, in their order of fetching: small
/// ones first, so that a repository of another kind is refused before gigabytes.
///
/// With `wanted` these files alone. Without, the parts of a pipeline that this program reads, or
/// the one `.safetensors` file of a repository that is no pipeline.
///
/// # Errors
/// A sentence that says what the repository lacks.
pub(super) fn choose(files: &[String], wanted: &[String], prefers_fp16: bool) -> Result<Vec<String>, String> {
    if !wanted.is_empty() {
        for name in wanted {
            if !files.contains(name) {
                return Err(format!("it has no file `{}`; it has {}", shown(name), listed(files)));
            }
            check(name)?;
            if is_pickle(name) {
                let name = shown(name);
                return Err(format!("`{name}` {PICKLE}; expected a `.safetensors` file"));
            }
        }
        return Ok(wanted.to_vec());
    }
    let has = |name: &str| files.iter().any(|file| file == name);
    if has("model_index.json") { pipeline(files, prefers_fp16) } else { alone(files) }
}

/// The files of a pipeline in diffusers' layout.
fn pipeline(files: &[String], prefers_fp16: bool) -> Result<Vec<String>, String> {
    let mut chosen: Vec<String> = vec!["model_index.json".into()];
    for name in ["README.md", "LICENSE.md", "LICENSE", "generation_config.json"] {
        chosen.extend(files.iter().find(|file| *file == name).cloned());
    }
    for folder in ["scheduler", "tokenizer", "tokenizer_2"] {
        chosen.extend(files.iter().filter(|file| is_text_in(file, folder)).cloned());
    }
    let configs = Component::ALL.map(|component| format!("{}/config.json", component.name()));
    chosen.extend(configs.into_iter().filter(|name| files.contains(name)));
    for component in Component::ALL {
        chosen.extend(weights(files, component, prefers_fp16)?);
    }
    chosen.iter().try_for_each(|name| check(name))?;
    Ok(chosen)
}

/// The weights of one component: whole or in shards, in half precision or in the other.
fn weights(files: &[String], component: Component, prefers_fp16: bool) -> Result<Vec<String>, String> {
    let folder = component.name();
    let inside: Vec<&str> =
        files.iter().filter_map(|file| file.strip_prefix(folder)?.strip_prefix('/')).collect();
    let stem = component.stem();
    let of = |is_fp16: bool| -> Vec<String> {
        let (mark, index) = match is_fp16 {
            true => (".fp16", ".index.fp16.json"),
            false => ("", ".index.json"),
        };
        let whole = format!("{stem}{mark}.safetensors");
        if inside.contains(&&*whole) {
            return vec![whole];
        }
        let index = format!("{stem}.safetensors{index}");
        if !inside.contains(&&*index) {
            return vec![];
        }
        let shards = inside.iter().filter(|name| is_shard(name, &format!("{stem}{mark}")));
        shards.map(|name| (*name).to_owned()).chain([index.clone()]).collect()
    };
    let found = [prefers_fp16, !prefers_fp16].into_iter().map(of).find(|names| !names.is_empty());
    let names = found.ok_or_else(|| {
        let pickle = inside.iter().find(|name| is_pickle(name));
        let only = pickle.map(|name| format!("; `{folder}/{}` {PICKLE}", shown(name)));
        let only = only.unwrap_or_default();
        format!("`{folder}` has no weights in the format safetensors{only}; expected `{stem}.safetensors`")
    })?;
    Ok(names.into_iter().map(|name| format!("{folder}/{name}")).collect())
}

/// The one file of weights beside the model card.
fn alone(files: &[String]) -> Result<Vec<String>, String> {
    let weights: Vec<&String> =
        files.iter().filter(|file| file.ends_with(".safetensors") && !file.contains('/')).collect();
    match weights.as_slice() {
        [one] => {
            check(one)?;
            let card = files.iter().find(|file| *file == "README.md").cloned();
            Ok(card.into_iter().chain([(*one).clone()]).collect())
        }
        [] => {
            Err("it has neither `model_index.json` nor a `.safetensors` file at its top; name a file of it \
             after the model"
                .into())
        }
        several => {
            let names: Vec<String> = several.iter().map(|name| (*name).clone()).collect();
            Err(format!("it has several models; name one of the files after it: {}", listed(&names)))
        }
    }
}

/// `true` for a name that files of Python's pickles have.
fn is_pickle(name: &str) -> bool {
    [".bin", ".ckpt", ".pkl", ".pt", ".pth"].iter().any(|ending| name.ends_with(ending))
}

/// `true` for a small text of a component's folder.
fn is_text_in(file: &str, folder: &str) -> bool {
    let inside = file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    inside.is_some_and(|name| !name.contains('/') && (name.ends_with(".json") || name.ends_with(".txt")))
}

/// `true` for `STEM-00001-of-00003.safetensors`.
fn is_shard(name: &str, stem: &str) -> bool {
    let number = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
    let number = number.and_then(|rest| rest.strip_suffix(".safetensors"));
    let parts = number.and_then(|number| number.split_once("-of-"));
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    parts.is_some_and(|(one, of)| is_number(one) && is_number(of))
}

/// Refuses a path that leads out of a folder, or that a terminal would obey.
fn check(path: &str) -> Result<(), String> {
    let is_plain = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && part.len() < 256 && !part.contains('\\')
    };
    if path.len() <= MAX_PATH && path.split('/').all(is_plain) && !path.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("it has a file `{}`; expected a path inside the repository", shown(path)))
}

fn shown(name: &str) -> String {
    dgx_pixels_core::model::header::shown(name)
}

/// The first names of a list.
fn listed(files: &[String]) -> String {
    const NAMED: usize = 12;
    let names: Vec<_> = files.iter().take(NAMED).map(|name| format!("`{}`", shown(name))).collect();
    let more = files.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_pipelines_own_files_are_chosen_once_and_in_one_precision() {
        let mut names = vec![
            "model_index.json",
            "README.md",
            "sd_xl_base_1.0.safetensors",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
            "unet/diffusion_pytorch_model-1-of-2.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/model.onnx",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder_2/model.safetensors",
            "text_encoder_2/pytorch_model.bin",
        ];
        let chosen = choose(&list(&names), &[], false).unwrap();
        let expected = [
            "model_index.json",
            "README.md",
            "scheduler/scheduler_config.json",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "unet/config.json",
            "text_encoder/model.safetensors",
            "text_encoder_2/model.safetensors",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ];
        assert_eq!(chosen, expected);
        let half = choose(&list(&names), &[], true).unwrap();
        assert!(half.contains(&"unet/diffusion_pytorch_model.fp16.safetensors".into()) && half.len() == 10);

        names.retain(|name| *name != "text_encoder_2/model.safetensors");
        let error = choose(&list(&names), &[], false).unwrap_err();
        assert!(error.contains("`text_encoder_2/pytorch_model.bin` is a pickle"), "{error}");
    }

    #[test]
    fn a_repository_of_files_gives_its_only_one_or_the_one_that_is_named() {
        let one = list(&["README.md", "pixel.safetensors", "images/a.png"]);
        assert_eq!(choose(&one, &[], false).unwrap(), ["README.md", "pixel.safetensors"]);
        let two = list(&["4step.safetensors", "8step.safetensors"]);
        assert_eq!(
            choose(&two, &[], false).unwrap_err(),
            "it has several models; name one of the files after it: `4step.safetensors`, `8step.safetensors`"
        );
        assert_eq!(choose(&two, &list(&["8step.safetensors"]), false).unwrap(), ["8step.safetensors"]);
        assert!(choose(&two, &list(&["1step.safetensors"]), false).is_err());
        let pickle = list(&["model.ckpt"]);
        assert!(choose(&pickle, &pickle, false).unwrap_err().starts_with("`model.ckpt` is a pickle"));
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in ["../a.safetensors", "/etc/a", "a/../b", "a//b", "a/./b", "a\\b", "a\nb", "a\u{1b}[2Jb"] {
            let error = choose(&list(&[path]), &list(&[path]), false).unwrap_err();
            assert!(error.ends_with("expected a path inside the repository"), "{error}");
            assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
        }
        let index = list(&["model_index.json", "tokenizer/..", "tokenizer/\u{1b}.json"]);
        assert!(choose(&index, &[], false).is_err());
    }
}
