// Headers of other libraries define macros of everyday words. Standard and Eigen headers are included before, as in a program
// that has lived with such macros for long; the rest of the library's own words must survive them.

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <concepts>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <complex.h>  // defines I
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// windows.h
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char
#define interface struct
#define ERROR 0
#define IN
#define OUT
#define CONST const
#define TRUE 1
#define FALSE 0
#define DELETE 0x00010000L
#define STRICT 1
#define VOID void
#define OPTIONAL
// X.h, Xlib.h
#define Status int
#define Bool int
#define True 1
#define False 0
#define None 0L
#define Success 0
#define Always 2
#define Unsorted 0
#define Complex 0
#define Convex 2
#define Above 0
#define Below 1
// qobjectdefs.h
#define slots
#define signals public
#define emit
#define foreach for
#define forever for (;;)
// sys/sysmacros.h, sys/param.h, curses.h, arduino
#define major(x) (x)
#define minor(x) (x)
#define isset(a, i) ((a)[i])

#define B0 0
#define PI 3.14

#include <zipml/analysis/realised_system.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/recommend.hpp>
#include <zipml/zipml.hpp>
