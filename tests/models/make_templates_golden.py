#!/usr/bin/env python3
"""Writes tests/models/golden/templates.txt: conversations as transformers renders them.

In: chat templates in Jinja, in our words after the formats that model makers publish, with the
expressions by which template.c tells them apart.  Out: fields between tabs, \\n and \\t escaped,
  template NAME BOS EOS JINJA
  text WHAT-IT-BECOMES ROLE CONTENT ROLE CONTENT ...        of the template above
Needs transformers 4.57 with jinja2. Mistral's v3 puts the system message into the last message of
the user; template.c puts it into the first, so that conversation is left out there."""
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

EACH = "{% for message in messages %}"
END = "{% endfor %}"
ASK = "{% if add_generation_prompt %}"
SPLIT = ("{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}"
         "{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}")
LOOP = SPLIT + "{{ bos_token }}{% for message in loop_messages %}"
TOOLS = "{% if tools %}{{ \"[AVAILABLE_TOOLS]\" + tools + \"[/AVAILABLE_TOOLS]\" }}{% endif %}"


def mistral(open_, close, answer, quote="'", tools=""):
    """The user's messages in [INST], the system message inside."""
    q = quote
    return (LOOP + "{% if message['role'] == 'user' %}" + tools
            + "{% if loop.WHICH and system_message is defined %}"
            f"{{{{ {q}{open_}{q} + system_message + '\\n\\n' + message['content'] + {q}{close}{q} }}}}"
            f"{{% else %}}{{{{ {q}{open_}{q} + message['content'] + {q}{close}{q} }}}}{{% endif %}}"
            f"{{% else %}}{{{{ {answer} + eos_token }}}}{{% endif %}}" + END)


def header(role, content):
    return f"'<|start_header_id|>' + {role} + '<|end_header_id|>\\n\\n' + {content} + '<|eot_id|>'"


CHATML = (EACH + "OWN{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
          "+ '\\n'}}" + END + ASK + "{{ '<|im_start|>assistant\\n' }}{% endif %}")
OWN = ("{% if loop.first and message['role'] != 'system' %}"
       "{{ '<|im_start|>system\\nYou are SmallTalk.\\nBe brief.<|im_end|>\\n' }}{% endif %}")
HEADERS_ASK = ASK + "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
DATES = "Cutting Knowledge Date: December 2023\\nToday Date: "
TEMPLATES = [
    ("chatml", "<s>", "<|im_end|>", CHATML.replace("OWN", "")),
    ("chatml", "<s>", "<|im_end|>", CHATML.replace("OWN", OWN)),
    # Qwen 2.5 names the system frame first where there are tools, cut in two.
    ("chatml", "<s>", "<|im_end|>",
     "{% if tools %}{{ '<|im_start|>system\\n' }}{{ tools }}{{ '<|im_end|>\\n' }}{% endif %}" + CHATML.replace("OWN", OWN)),
    ("llama2", "<s>", "</s>",
     SPLIT + "{% for message in loop_messages %}"
     "{% if loop.first and system_message is defined %}"
     "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
     "{% else %}{% set content = message['content'] %}{% endif %}"
     "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
     "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}" + END),
    ("llama3", "<|begin_of_text|>", "<|eot_id|>",
     EACH + "{% if loop.first %}{{ bos_token }}{% endif %}{{ "
     + header("message['role']", "message['content'] | trim") + " }}" + END + HEADERS_ASK),
    ("llama3", "<|begin_of_text|>", "<|eot_id|>",  # one that neither trims nor begins
     EACH + "{{ " + header("message['role']", "message['content']") + " }}" + END + HEADERS_ASK),
    ("llama3.1", "<|begin_of_text|>", "<|eot_id|>",
     "{{ bos_token }}{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
     "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] | trim %}"
     "{% set loop_messages = messages[1:] %}{% else %}{% set system_message = '' %}"
     "{% set loop_messages = messages %}{% endif %}"
     "{{ " + header("'system'", "'" + DATES + "' + date_string + '\\n\\n' + system_message") + " }}"
     "{% for message in loop_messages %}{{ "
     + header("message['role']", "message['content'] | trim") + " }}" + END + HEADERS_ASK),
    ("mistral-v0", "<s>", "</s>",
     "{{ bos_token }}" + EACH + "{% if message['role'] == 'user' %}"
     "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
     "{% else %}{{ message['content'] + eos_token }}{% endif %}" + END),
    ("mistral-v1", "<s>", "</s>",
     mistral(" [INST] ", " [/INST]", "' ' + message['content']").replace("WHICH", "first")),
    ("mistral-v3", "<s>", "</s>",
     mistral("[INST] ", "[/INST]", "' ' + message['content']", '"', TOOLS).replace("WHICH", "last")),
    ("mistral-v3-tekken", "<s>", "</s>",
     mistral("[INST]", "[/INST]", "message['content']", '"', TOOLS).replace("WHICH", "last")),
    ("mistral-v7-tekken", "<s>", "</s>",
     LOOP.replace("{% for", "{% if system_message is defined %}"
                  "{{ '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{% endif %}{% for")
     + "{% if message['role'] == 'user' %}{{ '[INST]' + message['content'] + '[/INST]' }}"
     "{% else %}{{ message['content'] + eos_token }}{% endif %}" + END),
    ("zephyr", "<s>", "</s>",
     EACH + "".join("\n{%% %sif message['role'] == '%s' %%}\n{{ '<|%s|>\\n' + message['content'] + "
                    "eos_token }}" % ("el" * (role != "user"), role, role)
                    for role in ("user", "system", "assistant"))
     + "\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
     + END),
    ("gemma", "<bos>", "<eos>",
     LOOP + "{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
     "{{ '<start_of_turn>' + role + '\\n' }}"
     "{% if loop.first and system_message is defined %}{{ system_message + '\\n\\n' }}{% endif %}"
     "{{ message['content'] | trim + '<end_of_turn>\\n' }}" + END + ASK
     + "{{ '<start_of_turn>model\\n' }}{% endif %}"),
]

SYSTEM = ("system", "You are terse.")
TALK = [("user", "Hello"), ("assistant", "Hi there"), ("user", "Who are you?\nSay it in café style.")]
BLANKS = [("user", "  Hello \n"), ("assistant", " Hi\t"), ("user", "\n\nWhy?  ")]
LONG = TALK + [("assistant", "A: b\n\nc"), ("user", "日本語 🙂?")]
CONVERSATIONS = [TALK[:1], [SYSTEM] + TALK[:1], TALK, [SYSTEM] + TALK, LONG, [SYSTEM] + LONG, BLANKS]


def field(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def left_out(name, conversation):
    system = conversation[0][0] == "system"
    if name == "mistral-v0":
        return system  # that template takes none
    return name.startswith("mistral-v3") and (
        (system and len(conversation) > 2) or conversation is BLANKS)  # some trim, some do not


def main():
    lines = []
    for name, bos, eos, jinja in TEMPLATES:
        lines.append(["template", name, bos, eos, jinja])
        for conversation in CONVERSATIONS:
            if left_out(name, conversation):
                continue
            messages = [{"role": role, "content": content} for role, content in conversation]
            texts, _ = render_jinja_template([messages], chat_template=jinja, tools=None,
                                             add_generation_prompt=True, bos_token=bos, eos_token=eos)
            lines.append(["text", texts[0]] + [part for message in conversation for part in message])
    text = "".join("\t".join(map(field, line)) + "\n" for line in lines)
    (pathlib.Path(__file__).parent / "golden" / "templates.txt").write_text(text)


main()
