# cmake -DREADME=... -DSOURCE=quickstart.cpp -DPROGRAM=quickstart -P check.cmake
# The README shows the program and its output as they are.
cmake_minimum_required(VERSION 3.20)

file(READ ${README} readme)
file(READ ${SOURCE} source)
string(FIND "${readme}" "```cpp\n${source}```" found)
if(found EQUAL -1)
  message(FATAL_ERROR "README.md does not show ${SOURCE} as it is")
endif()
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE output RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${code}")
endif()
string(FIND "${readme}" "```text\n${output}```" found)
if(found EQUAL -1)
  message(FATAL_ERROR "README.md does not show the output of ${PROGRAM}:\n${output}")
endif()
