"""The mount: FUSE requests, and the daemon that answers them.

The linker binds pyfuse3's calls into libfuse to the first library that has the name. The native module holds
one of them, fuse_session_receive_buf(), through which the express lane hands requests over, so it has to be
where the linker looks first by the time pyfuse3 is loaded.
"""

import ctypes

from fusecrypt import _native

ctypes.CDLL(_native.__file__, mode=ctypes.RTLD_GLOBAL)
