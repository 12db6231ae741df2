# run(EXPECTED ARGS...): PROGRAM ends with that code; what it says is in out and err.
function(run expected)
  execute_process(COMMAND ${PROGRAM} ${ARGN} OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE code)
  if(NOT code EQUAL expected)
    message(FATAL_ERROR "${ARGN}: expected to end with ${expected}, ended with ${code}\n${out}\n${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
  set(err "${err}" PARENT_SCOPE)
endfunction()
