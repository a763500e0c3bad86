/*
 * The unwinder that std asks for by name, of the static program, which never unwinds: it aborts on a panic and has no
 * tables. Only backtraces are asked for, by anyhow for every error when RUST_BACKTRACE is set, and here they are empty.
 * GCC's unwinder aborts when it finds no table.
 */

#include <stdlib.h>

enum { END_OF_STACK = 5 };

int _Unwind_Backtrace(void *function, void *argument)
{
    (void)function;
    (void)argument;
    return END_OF_STACK;
}

/* What could only be called while unwinding, or with a frame of a backtrace. */
#define NEVER_CALLED(name)                                                                                             \
    void name(void)                                                                                                    \
    {                                                                                                                  \
        abort();                                                                                                       \
    }

NEVER_CALLED(_Unwind_DeleteException)
NEVER_CALLED(_Unwind_FindEnclosingFunction)
NEVER_CALLED(_Unwind_GetCFA)
NEVER_CALLED(_Unwind_GetDataRelBase)
NEVER_CALLED(_Unwind_GetGR)
NEVER_CALLED(_Unwind_GetIP)
NEVER_CALLED(_Unwind_GetIPInfo)
NEVER_CALLED(_Unwind_GetLanguageSpecificData)
NEVER_CALLED(_Unwind_GetRegionStart)
NEVER_CALLED(_Unwind_GetTextRelBase)
NEVER_CALLED(_Unwind_RaiseException)
NEVER_CALLED(_Unwind_Resume)
NEVER_CALLED(_Unwind_SetGR)
NEVER_CALLED(_Unwind_SetIP)
