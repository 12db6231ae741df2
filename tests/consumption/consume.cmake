# cmake -DWAY=... [-DLINKED=zipml::kernels] -DSOURCE=... -DBUILD=... -DWORK=... -DCOMPILER=... -DFLAGS=... -DEIGEN=...
#       -P consume.cmake
cmake_minimum_required(VERSION 3.20)

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK}/project)
set(consumer ${CMAKE_CURRENT_LIST_DIR}/consumer.cpp)
if(NOT LINKED)
  set(LINKED zipml::zipml)
endif()
set(before "")
set(components "")
if(LINKED STREQUAL "zipml::distributed")
  set(consumer ${CMAKE_CURRENT_LIST_DIR}/distributed.cpp)
  set(before "set(ZIPML_WITH_MPI ON)\n")
  set(components " COMPONENTS distributed")
endif()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
  if(NOT code EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: ended with ${code}\n${out}\n${err}")
  endif()
  message("${out}")
endfunction()

# Compiles by hand, with the given flags.
function(compile_and_run)
  separate_arguments(flags UNIX_COMMAND "${FLAGS}")
  run(${COMPILER} -std=c++20 ${flags} ${ARGN} ${consumer} -o ${WORK}/consumer)
  run(${WORK}/consumer)
endfunction()

# A project of the user's around `lines`, which make zipml::zipml known. Nothing but the headers may come with it.
function(configure_and_run lines)
  set(more "")
  if(LINKED STREQUAL "zipml::kernels")
    set(file ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernels.cpp)
    string(APPEND more "add_library(flagged OBJECT ${file})\ntarget_link_libraries(flagged PRIVATE zipml::kernels)\n"
      "target_compile_definitions(flagged PRIVATE FLAGGED)\n"
      "if(CMAKE_SYSTEM_PROCESSOR MATCHES \"^(x86_64|AMD64)$\")\n"
      "  target_compile_options(flagged PRIVATE -msse3)\nelse()\n"
      "  target_compile_options(flagged PRIVATE -UZIPML_COMPILED)\nendif()\n"
      "add_executable(two_files ${file} $<TARGET_OBJECTS:flagged>)\n"
      "target_link_libraries(two_files PRIVATE zipml::kernels)\n")
  endif()
  file(WRITE ${WORK}/project/CMakeLists.txt "cmake_minimum_required(VERSION 3.20)\nproject(consumer LANGUAGES CXX)\n"
    "${lines}\n"
    "foreach(target quickstart train demo random_test epoch_bench)\n"
    "  if(TARGET \${target})\n    message(FATAL_ERROR \"zipml brought \${target} along\")\n  endif()\nendforeach()\n"
    "foreach(target zipml::zipml zipml::kernels)\n"
    "  get_target_property(options \${target} INTERFACE_COMPILE_OPTIONS)\n"
    "  if(options)\n    message(FATAL_ERROR \"\${target} leaks flags: \${options}\")\n  endif()\nendforeach()\n"
    "get_target_property(macros zipml::zipml INTERFACE_COMPILE_DEFINITIONS)\n"
    "if(macros)\n  message(FATAL_ERROR \"zipml::zipml defines \${macros}\")\nendif()\n"
    "add_executable(consumer ${consumer})\ntarget_link_libraries(consumer PRIVATE ${LINKED})\n${more}")
  run(${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/build -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_FLAGS=${FLAGS}
    ${ARGN})
  run(${CMAKE_COMMAND} --build ${WORK}/build)
  run(${WORK}/build/consumer)
  # The library is built when something links it, and only then.
  file(GLOB_RECURSE archives ${WORK}/build/*zipml_kernels.a)
  if(LINKED STREQUAL "zipml::kernels")
    run(${WORK}/build/two_files)
    if(NOT archives)
      message(FATAL_ERROR "zipml::kernels is no library")
    endif()
  elseif(archives)
    message(FATAL_ERROR "zipml::kernels was built, though nothing links it: ${archives}")
  endif()
endfunction()

if(WAY STREQUAL "plain")
  list(TRANSFORM EIGEN PREPEND -isystem)
  compile_and_run(-I${SOURCE}/include ${EIGEN})
elseif(WAY STREQUAL "add_subdirectory")
  configure_and_run("${before}add_subdirectory(${SOURCE} zipml)")
elseif(WAY STREQUAL "fetch_content")
  configure_and_run("include(FetchContent)\nFetchContent_Declare(zipml SOURCE_DIR ${SOURCE})\nFetchContent_MakeAvailable(zipml)")
else()
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  file(GLOB_RECURSE pages ${WORK}/prefix/include/*.md)
  if(pages)
    message(FATAL_ERROR "installed with the headers: ${pages}")
  endif()
  if(WAY STREQUAL "find_package")
    string(REGEX MATCH "^[0-9]+\\.[0-9]+" minor ${VERSION})
    configure_and_run("find_package(zipml 99 QUIET)\nif(zipml_FOUND)\n  message(FATAL_ERROR \"version 99 was found\")\nendif()\nfind_package(zipml ${minor} REQUIRED${components})" -DCMAKE_PREFIX_PATH=${WORK}/prefix)
  elseif(NOT PKG_CONFIG)
    message("skipped: pkg-config was not found")
  else()
    set(ENV{PKG_CONFIG_PATH} "${WORK}/prefix/share/pkgconfig:$ENV{PKG_CONFIG_PATH}")
    execute_process(COMMAND ${PKG_CONFIG} --cflags zipml RESULT_VARIABLE code
      OUTPUT_VARIABLE cflags OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT code EQUAL 0)
      message(FATAL_ERROR "pkg-config does not know zipml")
    endif()
    separate_arguments(cflags UNIX_COMMAND "${cflags}")
    compile_and_run(${cflags})
  endif()
endif()
