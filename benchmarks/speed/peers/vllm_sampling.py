"""Runs in vLLM's own environment: for each line of prompts, write, and say how many tokens."""

import json
import sys

from vllm import LLM, SamplingParams


def main() -> None:
    settings = json.loads(sys.argv[1])
    llm = LLM(
        settings["model"],
        dtype=settings["dtype"],
        enable_prefix_caching=True,
        max_model_len=1024,
        # On a CPU a share of the machine's memory, for weights and keys. Its default takes nearly
        # all of it, and it does not start beside another process that holds some.
        gpu_memory_utilization=0.2,
        seed=0,
    )
    sampling = SamplingParams(
        n=settings["n"],
        max_tokens=settings["max_tokens"],
        temperature=settings["temperature"],
        top_p=settings["top_p"],
    )
    for line in sys.stdin:
        prompts = [{"prompt_token_ids": ids} for ids in json.loads(line)]
        results = llm.generate(prompts, sampling, use_tqdm=False)
        tokens = sum(len(text.token_ids) for result in results for text in result.outputs)
        print(f"tokens {tokens}", flush=True)


if __name__ == "__main__":
    main()
