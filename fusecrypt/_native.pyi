from typing import Any

# cffi builds these from native/fusecrypt.h; only fusecrypt.native uses them and gives them types.
ffi: Any
lib: Any
