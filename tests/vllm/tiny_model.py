"""Creates a tiny Llama with random weights, which vLLM serves on a CPU at some hundred tokens per second. Its output is noise, but its token counts
are real. The tokenizer contains all bytes and few merges, so every text has many tokens.

Usage: tiny_model.py DIRECTORY
"""

import pathlib
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WINDOW = 4096
BEGIN, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Training text for the merges: some words, some letters of other scripts, and JSON.
LINES = [
    "Every answer that has ended is charged what it did cost, and every request under way what it may cost.",
    "A budget is a number of tokens for one day: system, user and assistant count alike.",
    "Über dem Nebelmeer; пример текста; 例えば文章; مثال; 🙂🚀",
    '{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}',
]


def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=448,
        special_tokens=[BEGIN, TURN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(LINES * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BEGIN, eos_token=END, pad_token=BEGIN, model_max_length=WINDOW
    )
    fast.chat_template = TEMPLATE
    return fast


def model(vocabulary):
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM's attention on CPUs supports
        max_position_embeddings=WINDOW,
        bos_token_id=vocabulary.bos_token_id,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


def main():
    directory = pathlib.Path(sys.argv[1])
    vocabulary = tokenizer()
    vocabulary.save_pretrained(directory)
    model(vocabulary).save_pretrained(directory)


if __name__ == "__main__":
    main()
