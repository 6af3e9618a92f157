"""What the text encoders learn beside the pictures: which words mean similar things.

A sentence's vector is drawn to a teacher's (`texts.npz`), and the similarities in a batch to the teacher's similarities. So
words that no caption has lie near those that captions have.
"""

from pathlib import Path

import numpy as np
import torch
from data import tokenize
from model import Parts
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer

TOKENS = 20
TEMPERATURE = 0.07


class Teacher(nn.Module):
    """The teacher's vectors, and a linear layer from each encoder to them."""

    def __init__(self, data: Path, tokenizer: CLIPTokenizer, parts: Parts, device: torch.device):
        super().__init__()
        packed = np.load(data / "texts.npz")
        ids = torch.from_numpy(tokenize(tokenizer, str(packed["texts"]).split("\n")))
        short = (ids[:, TOKENS - 1] == tokenizer.eos_token_id).nonzero().squeeze(1)
        self.ids = ids[short, :TOKENS].to(device)
        vectors = torch.from_numpy(packed["vectors"])[short].float()
        self.vectors = functional.normalize(vectors, dim=-1).to(device)
        width = vectors.shape[1]
        self.first = nn.Linear(parts.text_encoder.config.hidden_size, width).to(device)
        self.second = nn.Linear(parts.text_encoder_2.config.projection_dim, width).to(device)

    def loss(self, parts: Parts, rows: int) -> Tensor:
        which = torch.randint(len(self.ids), (rows,), device=self.ids.device)
        ids, wanted = self.ids[which].long(), self.vectors[which]
        hidden = parts.text_encoder(ids).last_hidden_state
        seen = (ids != parts.text_encoder.config.eos_token_id)[..., None]
        mean = (hidden * seen).sum(1) / seen.sum(1)
        pooled = parts.text_encoder_2(ids).text_embeds
        like = functional.log_softmax(wanted @ wanted.T / TEMPERATURE, -1)
        total = torch.zeros((), device=ids.device)
        for found in (self.first(mean), self.second(pooled)):
            found = functional.normalize(found.float(), dim=-1)
            total = total + (1 - (found * wanted).sum(-1)).mean()
            near = functional.log_softmax(found @ found.T / TEMPERATURE, -1)
            total = total + 0.2 * functional.kl_div(near, like, log_target=True, reduction="batchmean")
        return total
