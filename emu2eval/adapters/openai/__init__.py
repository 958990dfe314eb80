"""Servers that speak the chat-completions protocol of OpenAI: vLLM, SGLang, llama.cpp, TGI, hosted ones."""
