from typing import Any

# cffi builds these from native/fusecrypt.h; fusecrypt.native and fusecrypt.lane give them types.
ffi: Any
lib: Any
