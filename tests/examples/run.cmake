# run_command(EXPECTED COMMAND...): it ends with that code, or with any but 0 where that is `fails`, within five minutes; what it says
# is in out and err.
function(run_command expected)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE code TIMEOUT 300)
  if((expected STREQUAL "fails" AND code EQUAL 0) OR (NOT expected STREQUAL "fails" AND NOT code EQUAL expected))
    message(FATAL_ERROR "${ARGN}: expected to end with ${expected}, ended with ${code}\n${out}\n${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
  set(err "${err}" PARENT_SCOPE)
endfunction()

# run(EXPECTED ARGS...): the same of PROGRAM.
macro(run expected)
  run_command(${expected} ${PROGRAM} ${ARGN})
endmacro()
