"""A whole run small enough for tests: 40 users, and an LLM of two layers taught to answer."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

TASTES = ["drama", "comedy", "horror", "crime", "romance", "westerns"]
FIRST_WORDS = "Likes:"


def write_log(folder: Path, n_users: int = 40, n_items: int = 60) -> None:
    """Users who like one or two of six kinds of items; two CSV files."""
    rng = random.Random(0)
    kind = [TASTES[item % len(TASTES)] for item in range(n_items)]
    rows = ["user_id,item_id,rating,timestamp"]
    for user in range(n_users):
        liked = rng.sample(TASTES, 2)
        for time, item in enumerate(rng.sample(range(n_items), 22)):
            rating = rng.choice([4, 5]) if kind[item] in liked else rng.choice([1, 2, 3])
            rows.append(f"u{user},i{item},{rating},{time}")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    items = ["item_id,title,kind"]
    items += [f"i{item},Film {item},{kind[item]}" for item in range(n_items)]
    (folder / "items.csv").write_text("\n".join(items) + "\n")


def write_config(folder: Path, model: Path) -> Path:
    """The configuration of the small run, beside its log."""
    template = {
        "domain": "test",
        "system": "Taste.",
        "item": "{title} ({details})",
        "history": {
            "rated": "{profile}+{liked}\n-{disliked}\n",
            "unrated": "{profile}{history}\n",
        },
        "profile": "{profile}\n",
        "question": "?",
        "factors": ["Likes"],
        "first_words": FIRST_WORDS,
    }
    (folder / "template.yaml").write_text(yaml.safe_dump(template))
    config = {
        "data": {
            "source": "table",
            "name": "small",
            "interactions": "interactions.csv",
            "items": "items.csv",
            "columns": {"rating": "rating", "timestamp": "timestamp", "details": ["kind"]},
        },
        "folds": {"protocol": "split", "test_share": 0.3},
        "prompt": {
            "template": str(folder / "template.yaml"),
            "history_size": 3,
            "max_tokens": 256,
        },
        "model": {"name": str(model), "dtype": "float32"},
        "generation": {"n_samples": 4, "max_new_tokens": 24},
        "recommender": {"max_epochs": 2, "min_epochs": 1, "embedding_dim": 8, "hidden_dim": 8},
        "reward": {"folds": 2, "margin": 0.0},
        "alignment": {"max_pairs": 6, "gradient_accumulation": 1, "lora_rank": 2},
        "rounds": {"n_rounds": 1, "early_stop": False},
        "evaluation": {
            "backbones": ["prm"],
            "seeds": [0],
            "n_samples": 2,
            "resamples": 100,
            "ks": [5],
            "zero_shot": True,
            "with_history": True,
            "cool_temperature": 0.2,
        },
        "machine": {
            "engine": "transformers",
            "device": "cpu",
            "processes": 1,
            "shard_size": 16,
        },
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def teach(source: Path, folder: Path) -> None:
    """Teach a copy of the tiny model to end an answer, so that it writes well-formed texts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source)
    rng = random.Random(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(150):
            answers = [" " + " and ".join(rng.sample(TASTES, 2)) for _ in range(8)]
            texts = [f"<|im_start|>assistant\n{FIRST_WORDS}{text}<|im_end|>" for text in answers]
            batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            loss = model(**batch, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
