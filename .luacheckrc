std = "lua54"
max_line_length = 100
exclude_files = { "build*" }
files["library"] = { unused = false } -- annotations: functions without bodies
files["spec"] = { std = "lua54+busted" }
files[".busted"] = { std = "lua54" }
