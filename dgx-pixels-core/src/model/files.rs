//! The safetensors files that hold a component's weights, and the facts in their headers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::Dtype;
use serde_json::Value;

use super::header::{Header, other_format};
use super::read_text;
use crate::error::{Error, Reason};

/// The weights of one component: one file, shards under an index, or a part of a file that has all
/// components.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::files::WeightFiles;
/// # let folder = tempfile::tempdir()?;
/// let error = WeightFiles::open(folder.path(), "model", false).unwrap_err();
/// assert!(error.to_string().contains("`model.safetensors`"), "{error}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WeightFiles {
    /// The component's folder, or the file that has it.
    pub dir: PathBuf,
    /// The files of weights, in the order of their names.
    pub shards: Vec<Arc<Shard>>,
    tensors: BTreeMap<String, Weight>,
}

/// The place of one tensor in its file.
#[derive(Clone, Debug)]
pub struct Weight {
    shard: usize,
    /// The precision in the file.
    pub dtype: Dtype,
    /// The sides that the component asks for.
    pub shape: Vec<usize>,
    /// The place of its bytes, counted from the beginning of the file.
    pub bytes: Range<usize>,
    /// `true` if the file has the matrix transposed.
    pub is_transposed: bool,
    /// The factors of numbers in 8 bits.
    pub scale: Option<Scale>,
}

/// The factors that the numbers of a tensor are multiplied by. Files in 8 bits have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The precision of the factors.
    pub dtype: Dtype,
    /// The number of factors: 1 for the whole tensor, or one for each row as it lies in the file.
    pub count: usize,
    /// The place of their bytes, counted from the beginning of the file.
    pub bytes: Range<usize>,
}

/// One memory-mapped safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct Shard {
    /// The path of the file.
    pub path: PathBuf,
    /// The whole file; pages are read when touched.
    pub bytes: Mmap,
    /// Names, precisions, sides and places of its tensors.
    pub header: Header,
}

impl WeightFiles {
    /// Finds and maps the weights of the component in `dir`. `stem` is `model` for transformers'
    /// components and `diffusion_pytorch_model` for diffusers'. Of plain and `fp16` files the
    /// preferred ones are taken, or those there are. Other files of weights are not looked at.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: none found, a shard missing, truncated or corrupt.
    pub fn open(dir: &Path, stem: &str, prefer_fp16: bool) -> Result<Self, Error> {
        let paths = WeightPaths::find(dir, stem, prefer_fp16)?.shards;
        let shards =
            paths.into_iter().map(|path| Shard::open(path).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let mut tensors = BTreeMap::new();
        for (shard, file) in shards.iter().enumerate() {
            tensors.extend(file.header.tensors.iter().map(|tensor| {
                let (dtype, shape, bytes) = (tensor.dtype, tensor.shape.to_vec(), tensor.bytes.clone());
                (
                    tensor.name.to_string(),
                    Weight { shard, dtype, shape, bytes, is_transposed: false, scale: None },
                )
            }));
        }
        Ok(WeightFiles { dir: dir.to_owned(), shards, tensors })
    }

    /// The tensors of one file under other names.
    pub(super) fn of_file(file: &Arc<Shard>, tensors: BTreeMap<String, Weight>) -> WeightFiles {
        WeightFiles { dir: file.path.clone(), shards: vec![file.clone()], tensors }
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.tensors.iter().map(|(name, weight)| (name.as_str(), weight))
    }

    /// The tensor of this name, and the file that it lies in.
    pub fn get(&self, name: &str) -> Option<(&Weight, &Shard)> {
        self.tensors.get(name).map(|weight| (weight, &*self.shards[weight.shard]))
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|weight| weight.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|weight| weight.bytes.len() as u64).sum()
    }

    /// The precisions that occur, as `f32` or `f16`.
    pub fn dtypes(&self) -> Vec<String> {
        let words: BTreeSet<_> = self.tensors.values().map(|weight| dtype_word(weight.dtype)).collect();
        words.into_iter().collect()
    }
}

impl Weight {
    /// A whole tensor of a file that has everything.
    pub(super) fn of(tensor: &super::header::StoredTensor) -> Weight {
        let (dtype, shape, bytes) = (tensor.dtype, tensor.shape.to_vec(), tensor.bytes.clone());
        Weight { shard: 0, dtype, shape, bytes, is_transposed: false, scale: None }
    }
}

/// Where one component's weights lie.
pub(super) struct WeightPaths {
    /// The index of the shards.
    pub(super) index: Option<PathBuf>,
    pub(super) shards: Vec<PathBuf>,
}

impl WeightPaths {
    /// The files that [`WeightFiles::open`] maps: the first of its choices that is whole, as an
    /// index may be left of shards that were never fetched.
    ///
    /// # Errors
    /// As [`WeightFiles::open`].
    pub(super) fn find(dir: &Path, stem: &str, prefer_fp16: bool) -> Result<WeightPaths, Error> {
        let plain = [format!("{stem}.safetensors.index.json"), format!("{stem}.safetensors")];
        let fp16 = [format!("{stem}.safetensors.index.fp16.json"), format!("{stem}.fp16.safetensors")];
        let order = if prefer_fp16 { fp16.iter().chain(&plain) } else { plain.iter().chain(&fp16) };
        let mut first = None;
        for path in order.map(|name| dir.join(name)).filter(|path| path.is_file()) {
            let found = if path.extension().is_some_and(|extension| extension == "json") {
                shard_paths(dir, &path).map(|shards| WeightPaths { index: Some(path), shards })
            } else {
                Ok(WeightPaths { index: None, shards: vec![path] })
            };
            if found.as_ref().is_ok_and(|found| found.shards.iter().all(|shard| shard.is_file())) {
                return found;
            }
            first.get_or_insert(found);
        }
        // What is wrong with it is said when it is opened.
        first.unwrap_or_else(|| {
            Err(Error::model(dir, format!("no weights; expected `{}` or an index of shards", plain[1])))
        })
    }
}

/// The most files that one component's weights lie in.
const MAX_SHARDS: usize = 1024;

impl Shard {
    /// Maps a file, and checks its header.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: it is of another format, truncated or corrupt.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        // Opening a pipe would wait for its writer.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = file.map_err(|error| Error::model(&path, error))?;
        if !file.metadata().is_ok_and(|about| about.is_file()) {
            return Err(Error::model(&path, "it is no regular file; expected one in the format safetensors"));
        }
        // SAFETY: a mapping is undefined if another process truncates the file meanwhile. Weights
        // are not written while they are in use, and every loader of safetensors relies on that.
        let bytes = unsafe { Mmap::map(&file) }.map_err(|error| Error::model(&path, error))?;
        if let Some(format) = other_format(&bytes) {
            return Err(Error::model(&path, format));
        }
        let header = Header::read(&bytes).map_err(|error| {
            Error::model(
                &path,
                Reason::from((format!("truncated or corrupt ({} bytes)", bytes.len()), error)),
            )
        })?;
        Ok(Shard { path, bytes, header })
    }
}

/// The word for a safetensors precision, as `f32`.
pub fn dtype_word(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

fn shard_paths(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, Error> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, Value>,
    }
    let text = read_text(index).map_err(|error| Error::model(index, error))?;
    let Index { weight_map } = serde_json::from_str(&text)
        .map_err(|error| Error::model(index, ("not an index of shards", error)))?;
    let mut names = BTreeSet::new();
    for (tensor, shard) in &weight_map {
        match shard.as_str() {
            Some(name) if is_file_name(name) => names.insert(name),
            _ => {
                return Err(Error::model(
                    index,
                    format!("`{tensor}` lies in {shard}; expected the name of a file beside the index"),
                ));
            }
        };
    }
    if names.len() > MAX_SHARDS {
        return Err(Error::model(
            index,
            format!("it names {} files; expected at most {MAX_SHARDS}", names.len()),
        ));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Whether it is the name of a file beside, and no way to another folder.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::tensor::TensorView;
    use serde_json::json;

    use super::*;

    const PLAIN: &str = "model.safetensors";

    fn write(dir: &Path, name: &str) {
        let view = TensorView::new(Dtype::F32, vec![2], &[0; 8]).unwrap();
        fs::write(dir.join(name), safetensors::serialize([("a", view)], None).unwrap()).unwrap();
    }

    fn error(dir: &Path) -> String {
        let error = WeightFiles::open(dir, "model", false).unwrap_err().to_string();
        error.replace(&dir.display().to_string(), "DIR")
    }

    fn with_header(dir: &Path, len: u64, header: &str) -> String {
        fs::write(dir.join(PLAIN), [&len.to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        error(dir)
    }

    #[test]
    fn headers_that_lie_are_refused_before_anything_is_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert_eq!(
            with_header(dir, 100_000_000, "{}"),
            "cannot load the model in `DIR/model.safetensors`: truncated or corrupt (10 bytes)"
        );
        for header in [
            json!({ "a": { "dtype": "F32", "shape": [1u64 << 62, 1u64 << 62], "data_offsets": [0, 8] } }),
            json!({ "a": { "dtype": "F32", "shape": [u64::MAX], "data_offsets": [0, 8] } }),
            json!({ "a": { "dtype": "F32", "shape": [2], "data_offsets": [8, 0] } }),
            json!({ "a": { "dtype": "F32", "shape": [2], "data_offsets": [0, u64::MAX] } }),
            json!({ "a": { "dtype": "F32", "shape": [-2], "data_offsets": [0, 8] } }),
        ] {
            let header = header.to_string();
            let error = with_header(dir, header.len() as u64, &header);
            assert!(error.contains("truncated or corrupt ("), "{header}: {error}");
        }
        for len in [u64::MAX, 1 << 40] {
            assert!(with_header(dir, len, "{}").contains("truncated or corrupt (10 bytes)"), "{len}");
        }
    }

    #[test]
    fn an_index_names_files_beside_it_and_not_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let index = dir.join("model.safetensors.index.json");
        for name in ["../a", "..", ".", "/", "a/b", "a/", "", "./a"] {
            fs::write(&index, json!({ "weight_map": { "w": name } }).to_string()).unwrap();
            assert!(
                error(dir).contains("expected the name of a file beside the index"),
                "{name}: {}",
                error(dir)
            );
        }
        let many: serde_json::Map<_, _> = (0..2000).map(|i| (i.to_string(), i.to_string().into())).collect();
        fs::write(&index, json!({ "weight_map": many }).to_string()).unwrap();
        assert!(error(dir).ends_with("it names 2000 files; expected at most 1024"), "{}", error(dir));
    }

    #[test]
    fn an_index_whose_shards_are_not_there_does_not_hide_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let index = json!({ "weight_map": { "a": "model-00001-of-00002.safetensors" } }).to_string();
        fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
        assert!(error(dir).starts_with("cannot load the model in `DIR/model-00001-of-00002.safetensors`"));
        write(dir, PLAIN);
        assert_eq!(WeightFiles::open(dir, "model", false).unwrap().shards[0].path, dir.join(PLAIN));
        write(dir, "model-00001-of-00002.safetensors");
        let shards = WeightFiles::open(dir, "model", false).unwrap().shards;
        assert_eq!(shards[0].path, dir.join("model-00001-of-00002.safetensors"));
    }

    #[test]
    fn files_of_weights_that_are_not_used_are_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        write(dir, PLAIN);
        for unused in ["model.fp16.safetensors", "model.bin", "model.ckpt", "model.onnx", "other.safetensors"]
        {
            fs::write(dir.join(unused), "damaged").unwrap();
        }
        std::os::unix::fs::symlink("absent", dir.join("dangling.safetensors")).unwrap();
        assert_eq!(WeightFiles::open(dir, "model", false).unwrap().parameters(), 2);
        assert!(WeightFiles::open(dir, "model", true).is_err());
    }
}
