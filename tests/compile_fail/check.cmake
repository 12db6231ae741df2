# cmake -DCOMPILER=... -DFLAGS=... -DINCLUDES=... -DSNIPPET=x.cpp -P check.cmake
cmake_minimum_required(VERSION 3.20)

separate_arguments(flags UNIX_COMMAND "${FLAGS}")
# A header from outside says nothing about a mistake: -isystem keeps its warnings out. English messages.
list(POP_FRONT INCLUDES ours)
list(TRANSFORM INCLUDES PREPEND -isystem)
set(ENV{LC_ALL} C)
set(compile ${COMPILER} ${flags} -std=c++20 -fsyntax-only -I${ours} ${INCLUDES} ${SNIPPET})

execute_process(COMMAND ${compile} -DFIXED RESULT_VARIABLE code ERROR_VARIABLE messages)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "The corrected snippet (-DFIXED) does not compile either:\n${messages}")
endif()

execute_process(COMMAND ${compile} RESULT_VARIABLE code ERROR_VARIABLE messages)
if(code EQUAL 0)
  message(FATAL_ERROR "The snippet compiles.")
endif()
file(STRINGS ${SNIPPET} expected REGEX "^// expect: ")
string(REPLACE "// expect: " "" expected "${expected}")
string(REGEX MATCH "[^\n]*error:[^\n]*" first "${messages}")
string(FIND "${first}" "${expected}" found)
if(expected STREQUAL "" OR found EQUAL -1)
  message(FATAL_ERROR "The first error line does not say \"${expected}\":\n${first}\n\n${messages}")
endif()
message("${first}")
