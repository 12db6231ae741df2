# cmake -DNM=... -DOBJDUMP=... -DAWK=... -DBASELINE=a.o -DAVX2=b.o -P symbols.cmake
# Fails when a weak function of the AVX2 file that the baseline's file defines as well has VEX code: the linker
# may keep that copy for both. zipml's own functions carry the -m flags in their names; what this finds are
# templates of std:: and Eigen on types that are not zipml's.
cmake_minimum_required(VERSION 3.20)

set(work ${CMAKE_CURRENT_BINARY_DIR}/symbols)
file(MAKE_DIRECTORY ${work})
function(run output)
  execute_process(COMMAND ${ARGN} OUTPUT_FILE ${output} RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGN}: ended with ${code}")
  endif()
endfunction()
run(${work}/baseline.nm ${NM} ${BASELINE})
run(${work}/avx2.nm ${NM} ${AVX2})
run(${work}/avx2.dis ${OBJDUMP} -d --no-show-raw-insn ${AVX2})

# A lone vzeroupper does not count: g++ puts one before it resumes an exception, and nowhere else.
file(WRITE ${work}/shared.awk [=[
FILENAME ~ /\.nm$/ { if (NF == 3 && $2 ~ /^[WV]$/) defined[$3]++; next }
/^[0-9a-f]+ <.*>:$/ { name = substr($2, 2, length($2) - 3); next }
defined[name] == 2 && $2 ~ /^v/ && $2 != "vzeroupper" && !(name in seen) { seen[name]; print name " has " $2 }
]=])
run(${work}/shared.txt ${AWK} -f ${work}/shared.awk ${work}/baseline.nm ${work}/avx2.nm ${work}/avx2.dis)
file(STRINGS ${work}/shared.txt shared)
if(shared)
  list(JOIN shared "\n" shared)
  message(FATAL_ERROR "AVX code in functions that the linker may merge (c++filt makes the names readable):\n"
    "${shared}")
endif()
