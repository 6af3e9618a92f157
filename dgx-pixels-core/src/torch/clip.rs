//! The CLIP text encoders.

use tch::Tensor;

use super::Result;
use super::attention::attend;
use super::layers::Linear;
use super::norms::LayerNorm;
use super::weights::{Node, Weights};
use crate::error::Error;
use crate::model::config::{Activation, ClipConfig};

/// `CLIPTextModel`, or `CLIPTextModelWithProjection` if it has a projection.
///
/// Source: transformers 5.23, `models/clip/modeling_clip.py`.
pub(super) struct TextEncoder {
    token_embedding: Tensor,
    position_embedding: Tensor,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    config: ClipConfig,
}

/// What SDXL takes from a text encoder.
pub(super) struct Encoded {
    /// The hidden states before the last layer and those that are skipped besides,
    /// `[b, tokens, hidden_size]`.
    pub(super) hidden: Tensor,
    /// The end token's last state, `[b, hidden_size]`; with a projection, projected,
    /// `[b, projection_dim]`.
    pub(super) pooled: Tensor,
}

impl TextEncoder {
    pub(super) fn load(
        weights: &Weights,
        config: &ClipConfig,
        projects: bool,
    ) -> std::result::Result<Self, Error> {
        // transformers before 5 saved names with a prefix, and a table of positions that holds
        // nothing learned.
        let prefixed = weights.contains("text_model.final_layer_norm.weight");
        let root = weights.root();
        let model = if prefixed { &root / "text_model" } else { weights.root() };
        for name in ["embeddings.position_ids", "text_model.embeddings.position_ids"] {
            weights.ignore(name);
        }
        let width = config.hidden_size;
        Ok(TextEncoder {
            token_embedding: (&model / "embeddings" / "token_embedding")
                .tensor("weight", &[config.vocab_size, width])?,
            position_embedding: (&model / "embeddings" / "position_embedding")
                .tensor("weight", &[config.max_position_embeddings, width])?,
            layers: (0..config.num_hidden_layers)
                .map(|i| EncoderLayer::load(&model / "encoder" / "layers" / i, config))
                .collect::<std::result::Result<_, _>>()?,
            final_layer_norm: LayerNorm::load(&model / "final_layer_norm", width, config.layer_norm_eps)?,
            text_projection: projects
                .then(|| Linear::load_without_bias(&root / "text_projection", width, config.projection_dim))
                .transpose()?,
            config: config.clone(),
        })
    }

    /// The number of layers.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The precision of its weights.
    pub(super) fn kind(&self) -> tch::Kind {
        self.token_embedding.kind()
    }

    /// The numbers of a token's vector.
    pub(super) fn width(&self) -> i64 {
        self.config.hidden_size
    }

    /// The most tokens of a text, with its start and end.
    pub(super) fn positions(&self) -> i64 {
        self.config.max_position_embeddings
    }

    /// `ids [b, tokens]`, integers below `vocab_size`; with `vectors [n, hidden_size]` the `n` ids
    /// from there on stand for these. `skip` layers before the last give no hidden states, at most
    /// all.
    pub(super) fn forward(&self, ids: &Tensor, vectors: Option<&Tensor>, skip: usize) -> Result<Encoded> {
        // 1. embeddings
        let tokens = ids.size()[1];
        let table = |table: &Tensor, ids: &Tensor| Tensor::f_embedding(table, ids, -1, false, false);
        let (ids, embedded) = match vectors {
            None => (ids.shallow_clone(), table(&self.token_embedding, ids)?),
            Some(vectors) => {
                let words = self.config.vocab_size;
                let is_vector = ids.f_ge(words)?;
                // The end token is found by the largest id, so a vector has the least.
                let plain = ids.f_masked_fill(&is_vector, 0)?;
                let rows = ids.f_sub_scalar(words)?.f_clamp_min(0)?;
                let inserted = table(vectors, &rows)?;
                let of_words = table(&self.token_embedding, &plain)?;
                (plain, inserted.f_where_self(&is_vector.f_unsqueeze(-1)?, &of_words)?)
            }
        };
        let mut hidden = embedded.f_add(&self.position_embedding.f_narrow(0, 0, tokens)?)?;
        // 2. layers
        let (last, earlier) = self.layers.split_last().expect("the config asks for at least two layers");
        let kept = earlier.len().saturating_sub(skip);
        for layer in &earlier[..kept] {
            hidden = layer.forward(&hidden)?;
        }
        let taken = hidden.shallow_clone();
        for layer in &earlier[kept..] {
            hidden = layer.forward(&hidden)?;
        }
        let hidden = self.final_layer_norm.forward(&last.forward(&hidden)?)?;
        // 3. pooled at the end token
        let end = match self.config.eos_token_id {
            2 => ids.f_argmax(1, true)?,
            id => ids.f_eq(id)?.f_to_kind(tch::Kind::Int)?.f_argmax(1, true)?,
        };
        let place = end.f_unsqueeze(-1)?.f_expand([-1, -1, self.config.hidden_size], false)?;
        let pooled = hidden.f_gather(1, &place, false)?.f_squeeze_dim(1)?;
        let pooled = match &self.text_projection {
            Some(projection) => projection.forward(&pooled)?,
            None => pooled,
        };
        Ok(Encoded { hidden: taken, pooled })
    }
}

/// Causal self-attention and a feed-forward layer, each with a norm before and a skip path.
struct EncoderLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
    act: Activation,
}

impl EncoderLayer {
    fn load(node: Node, config: &ClipConfig) -> std::result::Result<Self, Error> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let attention = &node / "self_attn";
        Ok(EncoderLayer {
            layer_norm1: LayerNorm::load(&node / "layer_norm1", width, eps)?,
            q_proj: Linear::load(&attention / "q_proj", width, width)?,
            k_proj: Linear::load(&attention / "k_proj", width, width)?,
            v_proj: Linear::load(&attention / "v_proj", width, width)?,
            out_proj: Linear::load(&attention / "out_proj", width, width)?,
            layer_norm2: LayerNorm::load(&node / "layer_norm2", width, eps)?,
            fc1: Linear::load(&node / "mlp" / "fc1", width, config.intermediate_size)?,
            fc2: Linear::load(&node / "mlp" / "fc2", config.intermediate_size, width)?,
            heads: config.num_attention_heads,
            act: config.hidden_act,
        })
    }

    fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let (b, n, width) = hidden.size3()?;
        let split =
            |projected: Tensor| projected.f_view([b, n, self.heads, width / self.heads])?.f_transpose(1, 2);
        let normed = self.layer_norm1.forward(hidden)?;
        let (query, key, value) = (
            split(self.q_proj.forward(&normed)?)?,
            split(self.k_proj.forward(&normed)?)?,
            split(self.v_proj.forward(&normed)?)?,
        );
        let hidden = self.out_proj.forward(&attend(&query, &key, &value, true)?)?.f_add_(hidden)?;
        let inner = self.act.apply_(self.fc1.forward(&self.layer_norm2.forward(&hidden)?)?)?;
        self.fc2.forward(&inner)?.f_add_(&hidden)
    }
}
