"""From Python, with the words that users of TRL know: objects as data, `model`, `teacher_model`, `reward_funcs`."""
